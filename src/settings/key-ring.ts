/** A named AES-256 key. */
export interface RingKey { id: string, key: Buffer }

/** The key management services (KMS) that can wrap a key. */
export const kmsNames = ['aws-kms', 'transit'] as const

export type KmsName = typeof kmsNames[number]

/** A named key that a KMS must unwrap before it can be used. */
export interface WrappedKey { id: string, kms: KmsName, ciphertext: string }

export type RingEntry = RingKey | WrappedKey

const ID = /^[A-Za-z0-9_-]{1,32}$/
const KEY = /^[A-Za-z0-9+/]{43}=$/
/** Longer than a key: one that is not wrapped must not be sent to the KMS by mistake. */
const CIPHERTEXT = '[A-Za-z0-9+/]{64,}={0,2}$'
const ciphertexts: Record<KmsName, RegExp> = {
  'aws-kms': new RegExp(`^${CIPHERTEXT}`),
  transit: new RegExp(`^vault:v\\d{1,9}:${CIPHERTEXT}`)
}

/**
 * Parses `ENCRYPTION_KEYS`: `k2:<base64 of 32 bytes>,k1:<…>`. The first key seals, all of them open. An entry may be
 * wrapped: `k1:aws-kms:<base64>` or `k1:transit:vault:v1:<base64>`.
 *
 * @throws when the ring is empty, or a key is malformed, short or a duplicate; the message holds no key
 */
export function parseRingEntries (text: string): [RingEntry, ...RingEntry[]] {
  const [first = '', ...others] = text.split(',')
  const ring: [RingEntry, ...RingEntry[]] = [parseEntry(first), ...others.map(parseEntry)]
  if (new Set(ring.map(({ id }) => id)).size < ring.length) {
    throw new Error('ENCRYPTION_KEYS has an id twice. Give each key an id of its own.')
  }
  const keys = ring.flatMap((entry) => 'key' in entry ? entry.key.toString('hex') : [])
  if (new Set(keys).size < keys.length) {
    throw new Error('ENCRYPTION_KEYS has one key under two ids. Remove the one that sealed nothing.')
  }
  return ring
}

/**
 * Parses a ring without wrapped entries.
 *
 * @throws as `parseRingEntries`, and for a wrapped entry
 */
export function parseKeyRing (text: string): [RingKey, ...RingKey[]] {
  const [first, ...others] = parseRingEntries(text)
  return [assertPlain(first), ...others.map(assertPlain)]
}

/** Formats an entry of `ENCRYPTION_KEYS`. */
export function formatEntry (entry: RingEntry): string {
  return 'key' in entry
    ? `${entry.id}:${entry.key.toString('base64')}`
    : `${entry.id}:${entry.kms}:${entry.ciphertext}`
}

/** Whether a text can be the id of a key. */
export function isKeyId (text: string): boolean {
  return ID.test(text)
}

/** Whether a text is a ciphertext of this KMS. */
export function isCiphertext (kms: KmsName, text: string): boolean {
  return ciphertexts[kms].test(text)
}

function parseEntry (entry: string): RingEntry {
  const [id = '', second = '', ...rest] = entry.trim().split(':')
  const kms = kmsNames.find((name) => name === second)
  const ciphertext = rest.join(':')
  if (isKeyId(id)) {
    if (KEY.test(second) && rest.length === 0) return { id, key: Buffer.from(second, 'base64') }
    if (kms !== undefined && isCiphertext(kms, ciphertext)) return { id, kms, ciphertext }
  }
  throw new Error('ENCRYPTION_KEYS has an entry that is neither <id>:<base64 of 32 bytes> nor wrapped.')
}

function assertPlain (entry: RingEntry): RingKey {
  if ('key' in entry) return entry
  throw new Error(`The key ${entry.id} of ENCRYPTION_KEYS is wrapped, and was not unwrapped.`)
}
