import { createHash, createHmac } from 'node:crypto'
import t from '../run/tap.js'
import { createVault } from '../../src/vault/vault.js'
import { newKey } from '../without-database.js'

const [one, two] = [newKey(), newKey()]
const fingerprintsBy = (keyRing: string, text: string) => createVault({ keyRing }).fingerprints(text)

await t.test('a text has one fingerprint by each key, in the order of the ring', (t) => {
  const both = fingerprintsBy(`k2:${two},k1:${one}`, 'a text')
  t.same(both.map((fingerprint) => fingerprint.split('.')[0]), ['k2', 'k1'])
  for (const fingerprint of both) t.match(fingerprint, /^k\d\.[\w-]{43}$/)
  t.same(fingerprintsBy(`k1:${one}`, 'a text'), [both[1]], 'that of a key does not depend on the others')
  t.same(fingerprintsBy(`k1:${one},k2:${two}`, 'a text'), both.toReversed())
  t.end()
})

await t.test('another text and another key have another fingerprint', (t) => {
  const texts = ['', 'a', 'a ', 'A', 'ä', '\0', 'a'.repeat(100_000)]
  const all = [...texts.map((text) => fingerprintsBy(`k1:${one}`, text)), fingerprintsBy(`k1:${two}`, 'a')]
  t.equal(new Set(all.flat()).size, texts.length + 1)
  t.end()
})

await t.test('a short text cannot be found by trying without the key, nor with the key that seals', (t) => {
  const [, mac] = String(fingerprintsBy(`k1:${one}`, '190285')).split('.')
  const guesses = ['190285', '"190285"'].flatMap((text) => [
    createHash('sha256').update(text).digest('base64url'),
    createHmac('sha256', Buffer.from(one, 'base64')).update(text).digest('base64url'),
    createHmac('sha256', '').update(text).digest('base64url')
  ])
  t.notOk(guesses.includes(String(mac)))
  t.end()
})
