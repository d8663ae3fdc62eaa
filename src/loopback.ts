/** Says whether the host of a URL, as `URL.hostname` writes it, is this very machine. */
export function isLoopback (hostname: string): boolean {
  return ['localhost', '127.0.0.1', '[::1]'].includes(hostname)
}
