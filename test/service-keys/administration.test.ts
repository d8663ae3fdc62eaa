import { createHash } from 'node:crypto'
import t from '../run/tap.js'
import { serviceKeys } from '../routes/client.js'
import { bearer, keysClient } from './keys-client.js'

const { app, as, admin, call, createKey, sql, log } = await keysClient(t)

await t.test('the answer of the creation alone shows the key, and the database has its hash', async (t) => {
  const sent = {
    name: 'worker',
    scopes: ['configs:read', 'credentials:read'],
    tenants: ['acme', 'é'],
    expires_at: '2999-01-01T01:00:00+01:00'
  }
  const { is, body } = await call(bearer(app.auth.mint({ admin: true, userId: 'boss' }, 60)), 'POST', serviceKeys, sent)
  t.equal(is, '201')
  const { key, ...shown } = body
  const expires = '2999-01-01T00:00:00.000000Z'
  t.match(shown, { ...sent, expires_at: expires, created_by: 'boss', last_used_at: null, created_at: /Z$/ })
  t.match(key, /^wtc_[0-9a-f]{20}_[\w-]{43}$/)
  t.ok(String(key).startsWith(`wtc_${String(shown['id'])}_`))
  const { body: list } = await call(admin, 'GET', serviceKeys)
  t.strictSame(list, { service_keys: [shown], next_cursor: null })
  const [row] = await sql('select * from service_keys')
  t.equal(row?.['hash'], createHash('sha256').update(String(key)).digest('base64url'))
  const secret = String(key).slice(-43)
  t.notMatch(JSON.stringify([row, list]) + log(), secret)
})

await t.test('two keys of one name differ, and have no end and all tenants by default', async (t) => {
  const [first, second] = [await createKey(), await createKey()]
  t.not(first.id, second.id)
  t.not(first.key.slice(-43), second.key.slice(-43))
  const [row] = await sql('select tenants, expires_at, created_by from service_keys where id = $1', [first.id])
  t.strictSame(row, { tenants: null, expires_at: null, created_by: null })
})

await t.test('what is no usable description of a key is refused', async (t) => {
  const name = 'x'
  const scopes = ['credentials:read']
  for (const body of [
    undefined, {}, { name }, { scopes }, { name: '', scopes }, { name: ' a', scopes }, { name: 'a\n', scopes },
    { name: 'x'.repeat(101), scopes }, { name: 1, scopes }, { name, scopes: [] }, { name, scopes: ['admin'] },
    { name, scopes: 'credentials:read' }, { name, scopes: ['credentials:read', 'credentials:read'] },
    { name, scopes: ['toString'] }, { name, scopes, tenants: [] }, { name, scopes, tenants: null },
    { name, scopes, tenants: ['a', 'a'] }, { name, scopes, tenants: [''] }, { name, scopes, tenants: ['a\0'] },
    { name, scopes, tenants: ['x'.repeat(101)] },
    { name, scopes, tenants: Array.from({ length: 501 }, (_, i) => `t${i}`) },
    { name, scopes, expires_at: null }, { name, scopes, expires_at: 'tomorrow' },
    { name, scopes, expires_at: '2030-02-30T00:00:00Z' }, { name, scopes, id: '0'.repeat(20) },
    { name, scopes, hash: 'x' }, { name, scopes, created_by: 'x' }
  ]) {
    t.equal((await call(admin, 'POST', serviceKeys, body)).is, '400 VALIDATION_FAILED', JSON.stringify(body))
  }
})

await t.test('the list pages from the newest to the oldest key', async (t) => {
  await sql('delete from service_keys')
  const ids: string[] = []
  for (let i = 0; i < 5; i++) {
    ids.unshift((await createKey()).id)
    // Two keys of one millisecond have no order.
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  const seen: unknown[] = []
  let cursor = ''
  do {
    const { is, body } = await call(admin, 'GET', `${serviceKeys}?limit=2${cursor && `&cursor=${cursor}`}`)
    t.equal(is, '200')
    const { service_keys: page, next_cursor: next } = Object(body)
    t.ok(page.length <= 2)
    seen.push(...page.map(({ id }: { id: string }) => id))
    cursor = next ?? ''
  } while (cursor !== '')
  t.strictSame(seen, ids)
  for (const wrong of ['', 'x', `${ids[0]}0`, 'A'.repeat(20), '%00', "0'; drop table service_keys--"]) {
    const { is } = await call(admin, 'GET', `${serviceKeys}?cursor=${encodeURIComponent(wrong)}`)
    t.equal(is, '400 INVALID_CURSOR', wrong)
  }
  t.equal((await call(admin, 'GET', `${serviceKeys}?limit=201`)).is, '400 VALIDATION_FAILED')
})

await t.test('a key is deleted once', async (t) => {
  const { id } = await createKey()
  t.equal((await call(admin, 'DELETE', `${serviceKeys}/${id}`)).is, '204')
  t.equal((await call(admin, 'DELETE', `${serviceKeys}/${id}`)).is, '404 SERVICE_KEY_NOT_FOUND')
  for (const wrong of ['x', '%00', `${id}%20`, id.toUpperCase(), `wtc_${id}`]) {
    t.equal((await call(admin, 'DELETE', `${serviceKeys}/${wrong}`)).is, '400 VALIDATION_FAILED', wrong)
  }
})

await t.test('only admins administrate keys, whatever scopes a key has', async (t) => {
  const { id, header } = await createKey({ scopes: ['credentials:read', 'onboarding:links', 'configs:read'] })
  for (const [method, url] of [
    ['POST', serviceKeys], ['GET', serviceKeys], ['DELETE', `${serviceKeys}/${id}`]
  ] as const) {
    t.equal((await call({}, method, url)).is, '401 UNAUTHENTICATED')
    t.equal((await call(as('acme'), method, url)).is, '403 FORBIDDEN')
    t.equal((await call(header, method, url)).is, '403 FORBIDDEN')
  }
  t.equal((await sql('select from service_keys where id = $1', [id])).length, 1)
})
