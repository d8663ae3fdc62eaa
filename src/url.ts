/** Says whether a URL's percent-encoding is that of UTF-8. */
export function isDecodable (url: string): boolean {
  try {
    return decodeURIComponent(url) !== ''
  } catch {
    return false
  }
}
