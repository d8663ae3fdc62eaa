const NAMES = ['127.0.0.1', '[::1]', 'localhost']

/** Whether an http or https URL leads to this machine; false for what is no URL. */
export function isLoopback (url: string): boolean {
  return URL.canParse(url) && NAMES.includes(new URL(url).hostname)
}
