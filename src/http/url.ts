/** Says whether a URL's percent-encoding is that of UTF-8. */
export function isDecodable (url: string): boolean {
  if (!url.includes('%')) return true
  try {
    return decodeURIComponent(url) !== ''
  } catch {
    return false
  }
}
