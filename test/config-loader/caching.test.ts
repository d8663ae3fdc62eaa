import t from '../run/tap.js'
import type { ConfigLoader } from '../../src/config-loader/config-loader.js'
import { buildTestApp, connect, createDatabase, query, until, untilWaiting } from '../helper.js'
import { env, row } from './complete-config.js'
import { slowReads } from './slow-reads.js'

await t.test('a configuration or its absence is cached until it expires or is evicted', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  await query(DATABASE_URL, "insert into tenant_configs (tenant_id, waba_id) values ('acme', 'old'), ('other', 'old')")
  await query(DATABASE_URL, "insert into tenant_configs (tenant_id, is_active) values ('inactive', false)")
  const wabaOf = async (loader: ConfigLoader, tenant = 'acme') => (await loader.forTenant(tenant)).getWabaId()
  const { app: { configLoader } } = await buildTestApp(t, { DATABASE_URL })
  const { app: { configLoader: single } } = await buildTestApp(t, { DATABASE_URL, CONFIG_CACHE_MAX: 1 })
  const { app: { configLoader: brief } } = await buildTestApp(t, { DATABASE_URL, CONFIG_CACHE_TTL_MS: 1 })
  // Without triggers no change is notified. A later start would enable them again.
  await query(DATABASE_URL, 'alter table tenant_configs disable trigger all')
  for (const loader of [configLoader, single, brief]) t.equal(await wabaOf(loader), 'old')
  const snapshot = await configLoader.forTenant('acme')
  for (const tenant of ['inactive', 'missing']) t.equal((await configLoader.forTenant(tenant)).hasTenantConfig(), false)

  await query(
    DATABASE_URL,
    "update tenant_configs set waba_id = 'new', is_active = true; insert into tenant_configs (tenant_id) values " +
      "('missing')"
  )
  t.equal(await configLoader.forTenant('acme'), snapshot, 'the cached snapshot is returned')
  const promise = configLoader.forTenant('acme')
  t.equal(configLoader.forTenant('acme'), promise, 'all callers get one promise')
  t.ok(Object.isFrozen(promise))
  t.equal(await wabaOf(single), 'old')
  await until(async () => await wabaOf(brief) === 'new')
  t.equal(await wabaOf(single, 'other'), 'new')
  t.equal(await wabaOf(single), 'new', 'the other tenant evicted the entry')
  for (const tenant of ['inactive', 'missing']) {
    t.equal(
      (await configLoader.forTenant(tenant)).hasTenantConfig(),
      false,
      `the absence stays cached: ${tenant}`
    )
  }
  t.match(single.stats(), { entries: { tenants: 1 }, hits: 1, misses: 3, loads: 3, stale_serves: 0, channel: 'up' })
  t.strictSame(configLoader.stats(), {
    entries: { tenants: 3, phone_numbers: 0, wabas: 0 },
    hits: 6,
    misses: 3,
    loads: 3,
    invalidations: 1,
    stale_serves: 0,
    channel: 'up'
  })
})

await t.test('ten thousand concurrent calls for an uncached tenant execute one query', async (t) => {
  const { app: { tenantConfigs, configLoader }, databaseUrl } = await buildTestApp(t)
  await tenantConfigs.create('acme', null, row)
  await slowReads(databaseUrl)
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('select pg_advisory_lock(7)')
  const calls = Promise.all(Array.from({ length: 10_000 }, async () => await configLoader.forTenant('acme')))
  await untilWaiting(databaseUrl, 1)
  await lockHolder.query('select pg_advisory_unlock(7)')
  const snapshots = await calls
  t.equal(new Set(snapshots).size, 1)
  t.equal(snapshots[0]?.getAccessToken(), row.access_token)
  t.strictSame(
    await query(databaseUrl, 'select last_value::int as count, is_called from reads'),
    [{ count: 1, is_called: true }],
    'PostgreSQL counts one read'
  )
  t.match(configLoader.stats(), { misses: 10_000, loads: 1, hits: 0 })
})

await t.test('a cached row or absence counts as one hit', async (t) => {
  const { app: { tenantConfigs, configLoader } } = await buildTestApp(t, env)
  for (const tenant of ['acme', 'inactive']) await tenantConfigs.create(tenant, null, { waba_id: '1' })
  await tenantConfigs.setActive('inactive', false)
  // Otherwise a late notification of these writes could invalidate an entry below.
  await until(() => configLoader.stats().invalidations >= 8)
  for (const tenant of ['acme', 'inactive', 'missing']) {
    const { hits, misses, loads } = configLoader.stats()
    const first = await configLoader.forTenant(tenant)
    t.match(configLoader.stats(), { hits, misses: misses + 1, loads: loads + 1 }, tenant)
    t.equal(await configLoader.forTenant(tenant), first)
    t.match(configLoader.stats(), { hits: hits + 1, misses: misses + 1, loads: loads + 1 }, tenant)
  }
})
