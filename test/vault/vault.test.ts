import Fastify from 'fastify'
import fp from 'fastify-plugin'
import t from '../run/tap.js'
import type { SecretColumn } from '../../src/schemas/columns.js'
import vaultPlugin, { createVault } from '../../src/vault/vault.js'
import { newKey } from '../without-database.js'

const [one, two] = [newKey(), newKey()]
const columns: SecretColumn[] = ['access_token', 'fb_app_secret', 'verify_token', 'refresh_token']
const unreadable = { code: 'SECRET_UNREADABLE', statusCode: 500 }
const bytesOf = (sealed: string) => Buffer.from(sealed.split('.').at(-1) ?? '', 'base64url')

await t.test('a sealed secret opens again', async (t) => {
  const vault = createVault({ keyRing: `k1:${one}` })
  const secrets = [
    '', 'x', 'EAAG0123456789', 'grüße 👋 \u202e \u0000 漢字', 'a.b.c', ' ', 'x'.repeat(4096), '👋'.repeat(4096)
  ]
  for (const secret of secrets) {
    for (const column of columns) {
      const sealed = vault.seal(secret, 'acme 漢', column)
      t.match(sealed, /^v2\.k1\.[\w-]*\.[\w-]+$/)
      t.equal(bytesOf(sealed).length, 12 + Buffer.byteLength(secret) + 16)
      t.notOk(secret.length > 4 && sealed.includes(secret))
      t.equal(vault.open(sealed, 'acme 漢', column), secret)
    }
  }
})

await t.test('each sealing has its own IV', async (t) => {
  const vault = createVault({ keyRing: `k1:${one}` })
  const sealed = Array.from({ length: 1000 }, () => bytesOf(vault.seal('the same', 'acme', 'access_token')))
  t.equal(new Set(sealed.map((bytes) => bytes.subarray(0, 12).toString('hex'))).size, 1000)
  t.equal(new Set(sealed.map((bytes) => bytes.subarray(12).toString('hex'))).size, 1000)
})

await t.test('a sealed secret opens only for its tenant, column and key', async (t) => {
  const vault = createVault({ keyRing: `k1:${one}` })
  const sealed = vault.seal('secret', 'acme', 'access_token')
  for (const column of columns.slice(1)) t.throws(() => vault.open(sealed, 'acme', column), unreadable, column)
  for (const tenant of ['other', 'Acme', 'acme ', '']) {
    t.throws(() => vault.open(sealed, tenant, 'access_token'), unreadable, tenant)
  }
  const elsewhere = createVault({ keyRing: `k1:${two}` })
  t.throws(
    () => elsewhere.open(sealed, 'acme', 'access_token'),
    unreadable,
    'another key under the same id does not open it'
  )
  for (const { check_value } of vault.checkValues()) {
    t.throws(
      () => vault.open(check_value, 'acme', 'access_token'),
      unreadable,
      'a check value does not open as a secret'
    )
  }
  t.notOk(vault.hasSealed(sealed), 'a secret does not count as a check value')
})

for (const format of ['v1', 'v2'] as const) {
  await t.test(`a changed text in ${format} does not open`, async (t) => {
    const vault = createVault({ keyRing: `k1:${one},k2:${two}`, format })
    const sealed = vault.seal('a secret of acme', 'acme', 'access_token')
    const head = sealed.slice(0, sealed.lastIndexOf('.') + 1)
    const changed: string[] = []
    const bytes = bytesOf(sealed)
    for (let at = 0; at < bytes.length; at++) {
      for (const bit of [1, 128]) {
        changed.push(head + Buffer.from(bytes.map((byte, i) => i === at ? byte ^ bit : byte)).toString('base64url'))
      }
      const parts = [bytes.subarray(0, at), bytes.subarray(at + 1)]
      changed.push(...parts.map((part) => head + part.toString('base64url')))
    }
    for (let length = 0; length < sealed.length; length++) changed.push(sealed.slice(0, length))
    for (const odd of [
      'v3' + sealed.slice(2), sealed.replace('k1', 'k2'), sealed.replace('k1', 'k3'),
      sealed.replace(`${format}.k1.`, ''), sealed + '.', sealed + '\n', `${sealed}=`, ` ${sealed}`, 'a secret of acme'
    ]) changed.push(odd)
    const opened = changed.filter((value) => {
      try {
        vault.open(value, 'acme', 'access_token')
        return true
      } catch (err) {
        t.match(err, unreadable)
        t.notOk(err instanceof Error && err.cause)
        return false
      }
    })
    t.same(opened, [])
    t.ok(changed.length > 200)
  })
}

await t.test('the hint shows the tail of a long secret, and opens with nothing else', async (t) => {
  const vault = createVault({ keyRing: `k1:${one}` })
  const hintOf = (sealed: string) => Buffer.from(sealed.split('.')[2] ?? '', 'base64url').toString()
  for (const [secret, tail] of [
    ['', ''], ['x'.repeat(12) + 'abc', ''], ['x'.repeat(12) + 'abcd', 'abcd'], ['👋'.repeat(8), ''],
    ['👋'.repeat(16), '👋'.repeat(4)], ['a'.repeat(4000) + '.v2.', '.v2.']
  ] as const) {
    const sealed = vault.seal(secret, 'acme', 'access_token')
    t.equal(hintOf(sealed), tail)
    t.equal(vault.mask(sealed, 'acme', 'access_token'), `****${tail}`)
    t.equal(vault.open(sealed, 'acme', 'access_token'), secret)
  }
  const [format, id, hint, payload] = vault.seal('a secret of acme', 'acme', 'access_token').split('.')
  const other = Buffer.from('beta').toString('base64url')
  for (const forged of [`${format}.${id}.${other}.${payload}`, `${format}.${id}..${payload}`, `v1.${id}.${payload}`]) {
    t.throws(() => vault.open(forged, 'acme', 'access_token'), unreadable, forged)
  }
  const first = createVault({ keyRing: `k1:${one}`, format: 'v1' }).seal('a secret of acme', 'acme', 'access_token')
  t.throws(() => vault.open(first.replace('v1.k1.', `v2.k1.${hint}.`), 'acme', 'access_token'), unreadable)
})

await t.test('a mask opens no v2, not even with another key or in another place; v1 opens', async (t) => {
  const sealed = createVault({ keyRing: `k1:${one}` }).seal('a secret of acme', 'acme', 'access_token')
  const other = createVault({ keyRing: `k2:${two}` })
  t.equal(other.mask(sealed, 'beta', 'verify_token'), '****acme')
  t.throws(() => other.open(sealed, 'acme', 'access_token'), unreadable)
  const former = createVault({ keyRing: `k1:${one}`, format: 'v1' })
  const first = former.seal('a secret of acme', 'acme', 'access_token')
  t.match(first, /^v1\.k1\.[\w-]+$/)
  t.equal(former.mask(first, 'acme', 'access_token'), '****acme')
  t.throws(() => former.mask(first, 'beta', 'access_token'), unreadable)
  for (const text of ['', 'a secret of acme', `v2.k1.${'A'.repeat(23)}.AAAA`]) {
    t.throws(() => former.mask(text, 'acme', 'access_token'), unreadable, text)
  }
})

await t.test('a text is current when the first key would seal it so now', async (t) => {
  const old = createVault({ keyRing: `k1:${one}` })
  const vault = createVault({ keyRing: `k2:${two},k1:${one}`, format: 'v1' })
  const first = vault.seal('secret', 'acme', 'access_token')
  t.ok(vault.isCurrent(first))
  t.notOk(vault.isCurrent(old.seal('secret', 'acme', 'access_token')))
  t.notOk(vault.isCurrent('secret'))
  vault.useFormat('v2')
  t.notOk(vault.isCurrent(first))
  const second = vault.seal('secret', 'acme', 'access_token')
  t.match(second, /^v2\./)
  t.ok(vault.isCurrent(second))
  t.equal(vault.takeSeals(), 2)
  t.equal(vault.takeSeals(), 0)
})

await t.test('the first key seals, and every key opens', async (t) => {
  const old = createVault({ keyRing: `k1:${one}` })
  const rotated = createVault({ keyRing: `k2:${two},k1:${one}` })
  t.same(rotated.keyIds, ['k2', 'k1'])
  const sealed = rotated.seal('new', 'acme', 'verify_token')
  t.match(sealed, /^v2\.k2\./)
  t.equal(rotated.open(sealed, 'acme', 'verify_token'), 'new')
  t.equal(rotated.open(old.seal('old', 'acme', 'verify_token'), 'acme', 'verify_token'), 'old')
  t.throws(() => old.open(sealed, 'acme', 'verify_token'), unreadable)
  const checks = rotated.checkValues()
  t.same(
    checks.map(({ key_id: id, check_value: value }) => [
      id, value.split('.')[1], rotated.hasSealed(value), old.hasSealed(value)
    ]),
    [['k2', 'k2', true, false], ['k1', 'k1', true, true]]
  )
})

await t.test('createVault throws for an invalid key ring', async (t) => {
  for (const keyRing of ['', 'k1:short', `k1:${one},k1:${two}`, `k1:${one},k2:${one}`]) {
    t.throws(() => createVault({ keyRing }))
  }
})

await t.test('keyIdOf returns the key of a sealed text, and null for any other text', async (t) => {
  const vault = createVault({ keyRing: `k1:${one}` })
  t.equal(vault.keyIdOf(vault.seal('secret', 'acme', 'access_token')), 'k1')
  t.equal(vault.keyIdOf('v1.gone.AAAA'), 'gone')
  for (const text of [
    '', 'secret', 'v2.k1.AAAA', 'v1.k1.AA.AAAA', 'v3.k1.AA.AAAA', ' v1.k1.AAAA', 'v1.k1.AAAA ',
    'v1.k.1.AAAA', `v1.${'k'.repeat(33)}.AAAA`
  ]) t.equal(vault.keyIdOf(text), null, text)
})

await t.test('a secret sealed by a former version opens, and its check value matches', async (t) => {
  const vault = createVault({ keyRing: `k1:${Buffer.alloc(32, 7).toString('base64')}` })
  t.equal(
    vault.open('v1.k1.7FZgI6Jj1VilW6ajdB--ZVLqkzXo-dfXOYHv5c0A9vTNT95olJXHBxYN', 'acme', 'access_token'),
    'secret of acme'
  )
  t.ok(vault.hasSealed('v1.k1.SDlExKHb62gmk3bdLdhtiijHqMCtZBd0eZdXE5ddIj3Dt78ievpBkyg3donlxDVAjY2Vj_nBQwTn-D6e'))
})

await t.test('the vault plugin requires the settings, the way out and the database', async (t) => {
  const env = fp(async () => {}, { name: 'env' })
  await t.rejects(async () => { await Fastify().register(vaultPlugin) }, /dependency 'env' of plugin 'vault'/)
  await t.rejects(
    async () => { await Fastify().register(env).register(vaultPlugin) },
    /dependency 'outbound' of plugin 'vault'/
  )
  const outbound = fp(async () => {}, { name: 'outbound' })
  await t.rejects(
    async () => { await Fastify().register(env).register(outbound).register(vaultPlugin) },
    /dependency 'database' of plugin 'vault'/
  )
})
