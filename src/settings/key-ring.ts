/** A named AES-256 key. */
export interface RingKey { id: string, key: Buffer }

const ENTRY = /^(?<id>[A-Za-z0-9_-]{1,32}):(?<key>[A-Za-z0-9+/]{43}=)$/

/**
 * Parses `ENCRYPTION_KEYS`: `k2:<base64 of 32 bytes>,k1:<…>`. The first key seals, all of them open.
 *
 * @throws when the ring is empty, or a key is malformed, short or a duplicate; the message holds no key
 */
export function parseKeyRing (text: string): [RingKey, ...RingKey[]] {
  const [first = '', ...others] = text.split(',')
  const ring: [RingKey, ...RingKey[]] = [parseKey(first), ...others.map(parseKey)]
  if (new Set(ring.map(({ id }) => id)).size < ring.length) throw new Error('a key id is there twice')
  if (new Set(ring.map(({ key }) => key.toString('hex'))).size < ring.length) throw new Error('a key is there twice')
  return ring
}

function parseKey (entry: string): RingKey {
  const { id, key } = ENTRY.exec(entry.trim())?.groups ?? {}
  if (id === undefined || key === undefined) throw new Error('a key is not <id>:<base64 of 32 bytes>')
  return { id, key: Buffer.from(key, 'base64') }
}
