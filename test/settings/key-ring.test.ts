import { randomBytes } from 'node:crypto'
import t from '../run/tap.js'
import { formatEntry, parseKeyRing, parseRingEntries } from '../../src/settings/key-ring.js'

const key = () => randomBytes(32).toString('base64')
const [one, two] = [key(), key()]
/** The base64 of a ciphertext. */
const wrapped = randomBytes(60).toString('base64')

await t.test('the keys keep the order in which they are written', async (t) => {
  const ring = parseKeyRing(` k2:${two} ,\tA_b-9:${one}\n`)
  t.same(ring.map(({ id }) => id), ['k2', 'A_b-9'])
  t.same(ring.map(({ key }) => key.toString('base64')), [two, one])
  t.ok(parseKeyRing(`${'k'.repeat(32)}:${one}`))
})

await t.test('an entry may be wrapped, and is formatted as it was written', async (t) => {
  const entries = [
    `k3:aws-kms:${wrapped}`, `k2:transit:vault:v12:${wrapped}`, `k1:${one}`, `k4:aws-kms:${wrapped.slice(1)}=`,
    `k5:aws-kms:${wrapped.slice(2)}==`
  ]
  const ring = parseRingEntries(entries.join())
  t.match(ring, [
    { id: 'k3', kms: 'aws-kms', ciphertext: wrapped },
    { id: 'k2', kms: 'transit', ciphertext: `vault:v12:${wrapped}` },
    { id: 'k1', key: Buffer.from(one, 'base64') },
    {}, {}
  ])
  t.same(ring.map(formatEntry), entries)
  t.throws(() => parseKeyRing(entries.join()), /^The key k3 of ENCRYPTION_KEYS is wrapped, and was not unwrapped\.$/)
})

await t.test('an invalid key ring is refused, and no message contains a key', async (t) => {
  const malformed = 'ENCRYPTION_KEYS has an entry that is neither <id>:<base64 of 32 bytes> nor wrapped.'
  const idTwice = 'ENCRYPTION_KEYS has an id twice. Give each key an id of its own.'
  const bytes = (count: number) => randomBytes(count).toString('base64')
  const rings: [string, string, string][] = [
    ['empty', '', malformed],
    ['no id', one, malformed],
    ['empty id', `:${one}`, malformed],
    ['id too long', `${'k'.repeat(33)}:${one}`, malformed],
    ['id of other characters', `k.1:${one}`, malformed],
    ['no key', 'k1:', malformed],
    ['a short key', `k1:${bytes(31)}`, malformed],
    ['a long key', `k1:${bytes(33)}`, malformed],
    ['a key of 16 bytes', `k1:${bytes(16)}`, malformed],
    ['a key in base64url', `k1:${'-'.repeat(43)}=`, malformed],
    ['a key without padding', `k1:${one.slice(0, -1)}`, malformed],
    ['a key in hex', `k1:${randomBytes(32).toString('hex')}`, malformed],
    ['two keys in one entry', `k1:${one}:${two}`, malformed],
    ['a comma at the end', `k1:${one},`, malformed],
    ['an empty entry', `k1:${one},,k2:${two}`, malformed],
    ['an id twice', `k1:${one},k1:${two}`, idTwice],
    ['an id twice, once wrapped', `k1:${one},k1:aws-kms:${wrapped}`, idTwice],
    [
      'a key twice',
      `k1:${one},k2:${one}`,
      'ENCRYPTION_KEYS has one key under two ids. Remove the one that sealed nothing.'
    ],
    ['a plain key for AWS KMS', `k1:aws-kms:${one}`, malformed],
    ['a plain key for Transit', `k1:transit:vault:v1:${one}`, malformed],
    ['a ciphertext of Transit without its version', `k1:transit:${wrapped}`, malformed],
    ['a ciphertext of Transit for AWS KMS', `k1:aws-kms:vault:v1:${wrapped}`, malformed],
    ['a ciphertext in base64url', `k1:aws-kms:${'-'.repeat(80)}`, malformed],
    ['an unknown KMS', `k1:kms:${wrapped}`, malformed],
    ['the name of a property', `k1:constructor:${wrapped}`, malformed],
    ['a KMS without a ciphertext', 'k1:aws-kms:', malformed],
    ['a ciphertext without a KMS', `k1:${wrapped}`, malformed]
  ]
  for (const [what, ring, message] of rings) {
    t.throws(() => parseRingEntries(ring), new Error(message), what)
    t.throws(() => parseKeyRing(ring), new Error(message), what)
  }
})
