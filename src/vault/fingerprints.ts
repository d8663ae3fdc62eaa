import { createHmac, hkdfSync } from 'node:crypto'
import type { RingKey } from '../settings/key-ring.js'

const PURPOSE = 'whatsapp-tenant-config fingerprint'
const KEY_BYTES = 32

/**
 * Returns a function that makes the fingerprints of a text, `<key id>.<mac>`: one by each key of the ring, in its
 * order. Store the first, and compare a stored one with all of them. Each MAC is an HMAC-SHA256 with a key that
 * HKDF-SHA256 (RFC 5869) derives: without the ring nobody finds a short text by trying.
 */
export function createFingerprints (ring: RingKey[]) {
  const macKeys = ring.map(({ id, key }) => ({ id, key: Buffer.from(hkdfSync('sha256', key, '', PURPOSE, KEY_BYTES)) }))
  return (text: string): string[] =>
    macKeys.map(({ id, key }) => `${id}.${createHmac('sha256', key).update(text).digest('base64url')}`)
}
