/** Tells whether the percent-encoding of a URL is valid UTF-8. */
export function isDecodable (url: string): boolean {
  if (!url.includes('%')) return true
  try {
    return decodeURIComponent(url) !== ''
  } catch {
    return false
  }
}
