import type { IncomingHttpHeaders } from 'node:http'
import type { IfMatch } from '../../tenant-configs/tenant-configs.js'

/*
 * Conditional requests (RFC 9110, section 13). The schema of a route has checked the form of its headers; Node joins
 * repeated ones by commas.
 */

const TAG = /(?:W\/)?"[^"]*"/g
const OPAQUE_TAG = /"[^"]*"/g

/** Reads `If-Match`. Its comparison is strong: a weak tag equals no tag of ours. */
export function readIfMatch ({ 'if-match': header }: IncomingHttpHeaders): IfMatch {
  return header === undefined || header === '*' ? header : [...header.matchAll(TAG)].map(([tag]) => tag)
}

/** Tells whether `If-None-Match` names the tag, so that the client has this version. Its comparison is weak. */
export function isKnown ({ 'if-none-match': header }: IncomingHttpHeaders, etag: string): boolean {
  if (header === undefined) return false
  return header === '*' || [...header.matchAll(OPAQUE_TAG)].some(([tag]) => tag === etag)
}
