import { randomBytes } from 'node:crypto'
import t from '../run/tap.js'
import { parseKeyRing } from '../../src/settings/key-ring.js'

const key = () => randomBytes(32).toString('base64')
const [one, two] = [key(), key()]

await t.test('the keys keep the order in which they are written', async (t) => {
  const ring = parseKeyRing(` k2:${two} ,\tA_b-9:${one}\n`)
  t.same(ring.map(({ id }) => id), ['k2', 'A_b-9'])
  t.same(ring.map(({ key }) => key.toString('base64')), [two, one])
  t.ok(parseKeyRing(`${'k'.repeat(32)}:${one}`))
})

await t.test('an invalid key ring is refused, and no message contains a key', async (t) => {
  const malformed = 'a key is not <id>:<base64 of 32 bytes>'
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
    ['an id twice', `k1:${one},k1:${two}`, 'a key id is there twice'],
    ['a key twice', `k1:${one},k2:${one}`, 'a key is there twice']
  ]
  for (const [what, ring, message] of rings) t.throws(() => parseKeyRing(ring), new Error(message), what)
})
