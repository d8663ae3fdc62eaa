const NAMES = ['127.0.0.1', '[::1]', 'localhost']

/** Whether an http or https URL has a loopback host; false for an invalid URL. */
export function isLoopback (url: string): boolean {
  return URL.canParse(url) && NAMES.includes(new URL(url).hostname)
}
