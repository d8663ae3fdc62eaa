import { once } from 'node:events'
import { request } from 'node:http'
import t from '../run/tap.js'
import { config, full, onboard, type Answer } from '../routes/client.js'
import { idempotencyService, idempotentRoutes, isReplay, newKey } from './idempotency-service.js'

const service = await idempotencyService(t)
const { app, as, call, send, sql, keys, asked, login, newTenant, row, configure, expireLeases } = service

await t.test('a malformed key is refused before anything is stored or executed', async (t) => {
  const malformed = [
    '', ' ', '""', '"', '"a', '"a"b"', '"a";p=1', '"a", "b"', 'a, b', 'a b', 'x'.repeat(256), `"${'x'.repeat(256)}"`,
    'a\tb', 'a\nb', 'a\0', '\u007f', 'clé', 'ключ', '👋', '"\\n"', '"a\\"', '"\\', `"${'\\"'.repeat(256)}"`
  ]
  const tenant = newTenant()
  for (const url of idempotentRoutes) {
    for (const key of malformed) {
      const answer = await send(tenant, key, url, url === onboard ? login(tenant) : { waba_id: '1' })
      t.match(answer, {
        is: '400 VALIDATION_FAILED',
        body: { errors: [{ field: 'idempotency-key', message: /^must be 1 to 255 visible ASCII characters/ }] }
      }, JSON.stringify(key))
    }
  }
  t.same([await keys(tenant), await row(tenant), asked()], [[], undefined, []])
})

await t.test('any visible ASCII is a key of its own, quoted or bare', async (t) => {
  const same: string[][] = [
    ['a', '"a"'], ['A'], ['a"b', '"a\\"b"'], ['\\', '"\\\\"'], ['\\a'], ['a,b', '"a,b"'], ['"a b"'], ['" "'], ['*'],
    ["'; drop table idempotency_keys; --".replaceAll(' ', '')], ['%00'], ['x'.repeat(255), `"${'x'.repeat(255)}"`],
    [`"${'\\"'.repeat(255)}"`], ['__proto__'], ['constructor']
  ]
  const tenant = newTenant()
  for (const [first = '', ...others] of same) {
    const answer = await send(tenant, first, config, { access_token: '****1' })
    t.equal(answer.is, '400 MASKED_VALUE')
    t.notOk(isReplay(answer), first)
    for (const other of [first, ...others]) {
      t.ok(isReplay(await send(tenant, other, config, { access_token: '****1' })), other)
    }
  }
  t.equal((await keys(tenant)).length, same.length)
})

await t.test('two keys in one request, and bytes that are no ASCII, are refused over HTTP', async (t) => {
  const address = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  const tenant = newTenant()
  const status = async (headers: Array<[string, string]>) => {
    const all = [...Object.entries(as(tenant)), ['content-type', 'application/json'], ...headers]
    const sent = request(new URL(config, address), { method: 'POST', headers: [['host', address.host], ...all].flat() })
    sent.end('{"waba_id":"1"}')
    const [answer] = await once(sent, 'response')
    answer.resume()
    return answer.statusCode
  }
  const name = 'Idempotency-Key'
  t.equal(await status([[name, 'a'], [name, 'b']]), 400)
  t.equal(await status([[name, '"a"'], [name, '"a"']]), 400)
  t.equal(await status([[name, '\u00e9']]), 400)
  t.equal(await row(tenant), undefined)
  t.equal(await status([[name, 'a']]), 201)
})

await t.test('a request that is refused before its execution takes no key', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  const header = { 'idempotency-key': key }
  const before = await sql('select * from idempotency_keys')
  const refused: Record<string, Answer> = {
    '400 VALIDATION_FAILED': await send(tenant, key, config, { unknown: '1' }),
    '400 MALFORMED_JSON': await call({ ...as(tenant), ...header }, 'POST', config, '{', {
      'content-type': 'application/json'
    }),
    '415 UNSUPPORTED_MEDIA_TYPE': await call({ ...as(tenant), ...header }, 'POST', config, 'x', {
      'content-type': 'text/plain'
    }),
    '401 UNAUTHENTICATED': await call(header, 'POST', config, full),
    '403 TENANT_CLAIM_INVALID': await call({ ...service.admin, ...header }, 'POST', config, full)
  }
  for (const [is, answer] of Object.entries(refused)) t.equal(answer.is, is)
  t.same(await sql('select * from idempotency_keys'), before)
  t.equal((await send(tenant, key, config, full)).is, '201')
})

await t.test('a key is new again after 24 hours', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  t.equal((await send(tenant, key, config, full)).is, '201')
  const hours = 'extract(epoch from expires_at - now()) / 3600'
  t.match(await sql(`select ${hours} between 23.99 and 24 as ok from idempotency_keys where tenant_id = $1`, [tenant]),
    [{ ok: true }])
  await expireLeases(tenant)
  t.ok(isReplay(await send(tenant, key, config, full)), 'the answer stays after the lease')
  await sql('update idempotency_keys set expires_at = now() where tenant_id = $1', [tenant])
  t.equal((await send(tenant, key, config, { waba_id: '2' })).is, '409 CONFIG_EXISTS')
  await configure(tenant, 'DELETE')
  const created = await send(tenant, key, config, { waba_id: '2' })
  t.equal(created.is, '201')
  t.equal((await send(tenant, key, config, full)).is, '422 IDEMPOTENCY_KEY_REUSED', 'the former request is forgotten')
  t.ok(isReplay(await send(tenant, key, config, { waba_id: '2' })))
})
