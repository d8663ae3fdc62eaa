import { setTimeout as delay } from 'node:timers/promises'
import t from '../run/tap.js'
import { base, config, configs, full, resolve, serviceKeys } from '../routes/client.js'
import { clock } from '../fixtures/clock.js'
import { until } from '../helper.js'
import { bearer, keysClient } from './keys-client.js'

const url = `${resolve}?tenant_id=acme`
const unknown = 'Bearer error="invalid_token", error_description="The service key is unknown or deleted"'

await t.test('what is no key that exists is refused like a bad token', async (t) => {
  const { as, call, createKey } = await keysClient(t)
  await call(as('acme'), 'POST', config, full)
  const { id, key, header } = await createKey()
  t.equal((await call(header, 'GET', url)).is, '200')
  const secret = key.slice(-43)
  const jwt = as('acme').authorization.slice('Bearer '.length)
  for (const token of [
    'wtc_', 'wtc__', `wtc_${id}`, `wtc_${id}_`, `wtc_${id}_${'A'.repeat(43)}`, `wtc_${'0'.repeat(20)}_${secret}`,
    `wtc_${id}_${secret}A`, `wtc_${id}_${secret.slice(1)}`, `wtc_${id}__${secret}`, `wtc_${id.toUpperCase()}_${secret}`,
    `wtc_${id}_${secret.slice(0, -1)}=`, `wtc_${id}_${secret.slice(0, -1)}.`, `wtc_${id}\0_${secret}`,
    `wtc_${secret}_${id}`, `wtc_${id}_${secret.slice(0, -1)}\u00e9`, `wtc_${jwt}`, `wtc_${id}_${jwt}`,
    `wtc_${'x'.repeat(12_000)}`,
    `wtc_${id}_${'A'.repeat(12_000)}`, `wtc_'or''='_${secret}`, `wtc_*_${secret}`, `wtc_%_${secret}`
  ]) {
    const { is, headers } = await call(bearer(token), 'GET', url)
    t.strictSame([is, headers['www-authenticate']], ['401 UNAUTHENTICATED', unknown], token.slice(0, 99))
  }
  for (const token of [`${id}_${secret}`, `WTC_${id}_${secret}`, `xwtc_${id}_${secret}`, secret, `${key}.${key}.x`]) {
    t.equal((await call(bearer(token), 'GET', url)).is, '401 UNAUTHENTICATED', token.slice(0, 9))
  }
  for (const authorization of [key, `Basic ${key}`, `Bearer ${key} x`, `Bearer  ${key}`, `Bearer ${key},${key}`]) {
    t.equal((await call({ authorization }, 'GET', url)).is, '401 UNAUTHENTICATED')
  }
  t.equal((await call({ authorization: `bearer ${key}` }, 'GET', url)).is, '200')
})

await t.test('a key ends at its time', async (t) => {
  const { advance } = clock(t)
  const { as, call, createKey } = await keysClient(t)
  await call(as('acme'), 'POST', config, full)
  const { header } = await createKey({ expires_at: new Date(Date.now() + 60_000).toISOString() })
  t.equal((await call(header, 'GET', url)).is, '200')
  advance(61_000)
  const { is, headers } = await call(header, 'GET', url)
  t.equal(is, '401 UNAUTHENTICATED')
  t.match(headers['www-authenticate'], 'The token has expired')
  const born = await createKey({ expires_at: '2020-01-01T00:00:00Z' })
  t.equal((await call(born.header, 'GET', url)).is, '401 UNAUTHENTICATED')
})

await t.test('two keys work at once, and the deletion of one ends that one', async (t) => {
  const { admin, as, call, createKey } = await keysClient(t)
  await call(as('acme'), 'POST', config, full)
  const [former, next] = [await createKey(), await createKey()]
  for (const { header } of [former, next]) t.equal((await call(header, 'GET', url)).is, '200')
  t.equal((await call(admin, 'DELETE', `${serviceKeys}/${former.id}`)).is, '204')
  t.equal((await call(former.header, 'GET', url)).is, '401 UNAUTHENTICATED', 'at once')
  t.equal((await call(next.header, 'GET', url)).is, '200')
})

await t.test('a key without the scope of a route is told which one it needs', async (t) => {
  const { as, call, createKey } = await keysClient(t)
  await call(as('acme'), 'POST', config, full)
  for (const [scope, path] of [
    ['credentials:read', url], ['configs:read', `${configs}/all`], ['configs:read', `${configs}/stats`],
    ['configs:read', `${configs}/effective/acme`]
  ] as const) {
    const others = ['credentials:read', 'onboarding:links', 'configs:read'].filter((name) => name !== scope)
    const { is, headers } = await call((await createKey({ scopes: others })).header, 'GET', path)
    t.equal(is, '403 SCOPE_MISSING', path)
    t.equal(headers['www-authenticate'], `Bearer error="insufficient_scope", scope="${scope}"`)
    t.equal((await call((await createKey({ scopes: [scope] })).header, 'GET', path)).is, '200')
  }
})

await t.test('configs:read reads what admins read of configurations, and opens nothing else', async (t) => {
  const { as, call, createKey } = await keysClient(t)
  await call(as('acme'), 'POST', config, full)
  const { header } = await createKey({ scopes: ['configs:read'] })
  for (const path of [`${configs}/all`, `${configs}/stats`, `${configs}/effective/acme`]) {
    const { is, body } = await call(header, 'GET', path)
    t.equal(is, '200')
    for (const secret of [full.access_token, full.fb_app_secret, full.refresh_token]) {
      t.notMatch(JSON.stringify(body), secret)
    }
  }
  for (const [method, path] of [
    ['DELETE', `${configs}/delete-all`], ['DELETE', `${configs}/delete-tenant/acme`], ['GET', `${base}/admin/events`],
    ['POST', `${base}/admin/events/5d0f6f0e-6a7c-4a58-9d3b-1f8f6a3f0c55/redeliver`], ['GET', `${base}/admin/nothing`],
    ['POST', `${configs}/all`]
  ] as const) t.equal((await call(header, method, path)).is, '403 FORBIDDEN', path)
  for (const path of [config, `${config}/full`, `${config}/health`, base]) {
    t.equal((await call(header, 'GET', path)).is, '401 UNAUTHENTICATED', `${path} needs a tenant's token`)
  }
})

await t.test('a key for certain tenants reads these alone, and nothing over all tenants', async (t) => {
  const { as, call, createKey } = await keysClient(t)
  for (const id of ['acme', 'shop', 'undefined']) await call(as(id), 'POST', config, { waba_id: id })
  const { header } = await createKey({ scopes: ['configs:read'], tenants: ['acme', 'undefined'] })
  t.match((await call(header, 'GET', `${configs}/effective/acme`)).body, { tenant_id: 'acme', decision: 'serve' })
  for (const path of ['all', 'all?tenant_id=acme', 'stats', 'effective/shop', 'effective/nobody', 'effective/ACME']) {
    t.equal((await call(header, 'GET', `${configs}/${path}`)).is, '403 FORBIDDEN', path)
  }
})

await t.test('the use of a key is noted once a minute, not at each request', async (t) => {
  const { as, call, createKey, log, sql } = await keysClient(t)
  await call(as('acme'), 'POST', config, full)
  const { id, header } = await createKey()
  const version = async () =>
    (await sql('select last_used_at::text as at, xmin::text from service_keys where id = $1', [id]))[0] ?? {}
  t.match(await version(), { at: null })
  await call(header, 'GET', url)
  await until(async () => (await version())['at'] !== null)
  const first = await version()
  const readForAWhile = async () => {
    // Longer than a process caches the key.
    for (let i = 0; i < 8; i++) {
      await call(header, 'GET', url)
      await delay(100)
    }
  }
  await readForAWhile()
  t.strictSame(await version(), first)
  await sql("update service_keys set last_used_at = now() - interval '61 seconds' where id = $1", [id])
  const old = await version()
  await readForAWhile()
  t.not((await version())['at'], old['at'])

  await sql("create function refused() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
  await sql('update service_keys set last_used_at = null where id = $1', [id])
  await sql('create trigger refused before update on service_keys for each row execute function refused()')
  await readForAWhile()
  t.match(log(), 'the use of a service key could not be noted')
  t.equal((await call(header, 'GET', url)).is, '200', 'the request does not depend on it')
})
