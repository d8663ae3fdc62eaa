import { BlockList, isIP } from 'node:net'

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8)
loopback.addAddress('::1', 'ipv6')

/**
 * Whether a host to listen on or to connect to is loopback: localhost, 127.0.0.0/8 or ::1, also mapped to IPv6.
 * No other name counts: its addresses may change.
 */
export function isLoopbackHost (host: string): boolean {
  const version = isIP(host)
  return version === 0 ? host.toLowerCase() === 'localhost' : loopback.check(host, version === 4 ? 'ipv4' : 'ipv6')
}

/** Whether the host of a URL, as `URL.hostname` writes it, is this machine. */
export function isLoopback (hostname: string): boolean {
  return ['localhost', '127.0.0.1', '[::1]'].includes(hostname)
}
