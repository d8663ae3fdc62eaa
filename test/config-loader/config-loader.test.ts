import { randomBytes } from 'node:crypto'
import t from '../run/tap.js'
import type { ConfigLoader } from '../../src/config-loader/config-loader.js'
import type { ConfigInput } from '../../src/tenant-configs/row-secrets.js'
import { storeVerified, verifyEachRow } from '../fixtures/verified-rows.js'
import { slowReads } from './slow-reads.js'
import { buildTestApp, connect, createDatabase, query, until, untilWaiting } from '../helper.js'

const canary = (name: string) => `canary-${name}-${randomBytes(6).toString('hex')}`
const env = {
  WHATSAPP_PHONE_ID: 'env phone_id',
  WHATSAPP_TOKEN: canary('token-of-env'),
  WHATSAPP_WABA_ID: 'env waba_id',
  FB_APP_ID: 'env fb_app_id',
  FB_APP_SECRET: canary('secret-of-env'),
  CALLBACK_URL: 'https://env.example/callback',
  REDIRECT_URL: 'https://env.example/redirect',
  VERIFY_TOKEN: canary('verify-of-env')
}
const row = {
  phone_number_id: 'row phone',
  access_token: canary('token-of-row'),
  waba_id: 'row waba',
  fb_app_id: 'row app',
  fb_app_secret: canary('secret-of-row'),
  callback_url: 'https://row.example/callback',
  redirect_url: 'https://row.example/redirect',
  verify_token: canary('verify-of-row'),
  refresh_token: canary('refresh-of-row'),
  token_expires_at: '2027-01-22T12:00:00.001000Z'
}
const { phone_number_id: phone_id, refresh_token: _, ...rest } = row
const fromRow = { phone_id, ...rest }
const appOfEnv = { fb_app_id: env.FB_APP_ID, fb_app_secret: env.FB_APP_SECRET }
const restOfEnv = {
  ...appOfEnv,
  callback_url: env.CALLBACK_URL,
  redirect_url: env.REDIRECT_URL,
  verify_token: env.VERIFY_TOKEN
}
const noIdentity = { phone_id: null, access_token: null, waba_id: null, token_expires_at: null }
const fromEnv = {
  phone_id: env.WHATSAPP_PHONE_ID,
  access_token: env.WHATSAPP_TOKEN,
  waba_id: env.WHATSAPP_WABA_ID,
  token_expires_at: null,
  ...restOfEnv
}

/** The expected result for a tenant: values, or the code of the error. */
type Outcome = object | 'TENANT_INACTIVE' | 'CONFIG_NOT_FOUND'

await t.test('the row and CONFIG_FALLBACK decide the values or the error of a tenant', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const rows: Record<string, ConfigInput> = {
    whole: row,
    empty: { refresh_token: 'r' },
    'without token': { ...row, phone_number_id: '2', access_token: null },
    'half an app': { ...row, phone_number_id: '3', fb_app_secret: null },
    'other half': { ...row, phone_number_id: '4', fb_app_id: null },
    'without URLs': { ...row, phone_number_id: '5', callback_url: null, verify_token: null },
    inactive: { ...row, phone_number_id: '6' }
  }
  const always: Record<string, Outcome> = {
    whole: fromRow,
    empty: { ...noIdentity, ...restOfEnv },
    'without token': { ...fromRow, phone_id: '2', access_token: null },
    'half an app': { ...fromRow, phone_id: '3', ...appOfEnv },
    'other half': { ...fromRow, phone_id: '4', ...appOfEnv },
    'without URLs': { ...fromRow, phone_id: '5', callback_url: env.CALLBACK_URL, verify_token: env.VERIFY_TOKEN }
  }
  const modes: Record<string, Record<string, Outcome>> = {
    '': { ...always, inactive: fromEnv, missing: fromEnv },
    'missing-or-inactive': { ...always, inactive: fromEnv, missing: fromEnv },
    missing: { ...always, inactive: 'TENANT_INACTIVE', missing: fromEnv },
    none: { ...always, inactive: 'TENANT_INACTIVE', missing: 'CONFIG_NOT_FOUND' }
  }
  const { app: { tenantConfigs } } = await buildTestApp(t, { DATABASE_URL })
  for (const [tenant, input] of Object.entries(rows)) await tenantConfigs.create(tenant, null, input)
  await tenantConfigs.setActive('inactive', false)

  for (const [CONFIG_FALLBACK, outcomes] of Object.entries(modes)) {
    const { app: { configLoader }, log } = await buildTestApp(t, { DATABASE_URL, ...env, CONFIG_FALLBACK })
    for (const [tenant, outcome] of Object.entries(outcomes)) {
      for (const time of ['loaded', 'again']) {
        const what = `${CONFIG_FALLBACK}: ${tenant}, ${time}`
        if (typeof outcome === 'string') {
          await t.rejects(configLoader.forTenant(tenant), { code: outcome }, what)
          await t.rejects(configLoader.getWhatsappConfig(tenant), { code: outcome }, what)
        } else {
          const config = await configLoader.forTenant(tenant)
          t.strictSame(config.getAllConfig(), { ...config.getAllConfig(), ...outcome }, what)
          t.equal(config.hasTenantConfig(), tenant in always, what)
          t.strictSame(await configLoader.getWhatsappConfig(tenant), config.getAllConfig(), what)
        }
      }
    }
    t.notMatch(log(), 'canary')
  }

  const { app: { configLoader } } = await buildTestApp(t, { DATABASE_URL })
  t.strictSame(
    Object.values(await configLoader.getWhatsappConfig('missing')),
    Array(9).fill(null),
    'with nothing in .env'
  )
  t.strictSame((await configLoader.forTenant('half an app')).getSources(), {
    ...Object.fromEntries(Object.keys(fromRow).map((key) => [key, 'database'])),
    fb_app_id: null,
    fb_app_secret: null
  })
})

await t.test('forTenant rejects an invalid tenant id with a TypeError', async (t) => {
  const { app: { configLoader } } = await buildTestApp(t, env)
  const call: (id: unknown) => Promise<unknown> = async (id) => await Reflect.apply(
    configLoader.forTenant,
    configLoader,
    [id]
  )
  for (const id of [
    undefined, null, 1, {}, ['acme'], '', 'x'.repeat(101), '👋'.repeat(101), 'a\0', 'a\n', '\u007f', '\u0085', '\ud800',
    Object('acme')
  ]) {
    await t.rejects(call(id), TypeError)
  }
  for (const id of [
    'x', '👋'.repeat(100), ' ', '__proto__', "'; drop table"
  ]) t.equal((await configLoader.forTenant(id)).getPhoneId(), env.WHATSAPP_PHONE_ID)
})

await t.test('a configuration or its absence is cached until it expires or is evicted', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  await query(DATABASE_URL, "insert into tenant_configs (tenant_id, waba_id) values ('acme', 'old'), ('other', 'old')")
  await query(DATABASE_URL, "insert into tenant_configs (tenant_id, is_active) values ('inactive', false)")
  const wabaOf = async (loader: ConfigLoader, tenant = 'acme') => (await loader.forTenant(tenant)).getWabaId()
  const { app: { configLoader } } = await buildTestApp(t, { DATABASE_URL })
  const { app: { configLoader: one } } = await buildTestApp(t, { DATABASE_URL, CONFIG_CACHE_MAX: 1 })
  const { app: { configLoader: brief } } = await buildTestApp(t, { DATABASE_URL, CONFIG_CACHE_TTL_MS: 1 })
  // Without triggers no change is notified. A later start would enable them again.
  await query(DATABASE_URL, 'alter table tenant_configs disable trigger all')
  for (const loader of [configLoader, one, brief]) t.equal(await wabaOf(loader), 'old')
  const snapshot = await configLoader.forTenant('acme')
  for (const tenant of ['inactive', 'missing']) t.equal((await configLoader.forTenant(tenant)).hasTenantConfig(), false)

  await query(
    DATABASE_URL,
    "update tenant_configs set waba_id = 'new', is_active = true; insert into tenant_configs (tenant_id) values " +
      "('missing')"
  )
  t.equal(await configLoader.forTenant('acme'), snapshot, 'the very same')
  t.equal(await wabaOf(one), 'old')
  await until(async () => await wabaOf(brief) === 'new')
  t.equal(await wabaOf(one, 'other'), 'new')
  t.equal(await wabaOf(one), 'new', 'the other tenant took its place')
  for (const tenant of ['inactive', 'missing']) {
    t.equal(
      (await configLoader.forTenant(tenant)).hasTenantConfig(),
      false,
      `so is that it is ${tenant}`
    )
  }
  t.match(one.stats(), { entries: { tenants: 1 }, hits: 1, misses: 3, loads: 3, stale_serves: 0, channel: 'up' })
  t.strictSame(configLoader.stats(), {
    entries: { tenants: 3, phone_numbers: 0, wabas: 0 },
    hits: 4,
    misses: 3,
    loads: 3,
    invalidations: 1,
    stale_serves: 0,
    channel: 'up'
  })
})

await t.test('a write through this process is visible to the next call', async (t) => {
  const { app } = await buildTestApp(t, env)
  const { tenantConfigs, configLoader } = app
  const verified = { waba_id: 'verified', phone_number_id: '1', access_token: 'EAAG', token_expires_at: null }
  const writes: [string, () => Promise<unknown>, string | null][] = [
    ['create', async () => await tenantConfigs.create('acme', null, { waba_id: 'created' }), 'created'],
    ['update', async () => await tenantConfigs.update('acme', { waba_id: 'updated' }), 'updated'],
    ['deactivate', async () => await tenantConfigs.setActive('acme', false), env.WHATSAPP_WABA_ID],
    ['activate', async () => await tenantConfigs.setActive('acme', true), 'updated'],
    ['onboard over it', async () => await storeVerified(app, 'acme', verified), 'verified'],
    ['clear', async () => await tenantConfigs.update('acme', { waba_id: null }), null],
    ['delete', async () => await tenantConfigs.remove('acme'), env.WHATSAPP_WABA_ID],
    ['onboard anew', async () => await storeVerified(app, 'acme', verified), 'verified'],
    ['delete all', async () => await tenantConfigs.removeAll(1), env.WHATSAPP_WABA_ID]
  ]
  for (const [what, write, expected] of writes) {
    await configLoader.forTenant('acme')
    await write()
    t.equal((await configLoader.forTenant('acme')).getWabaId(), expected, what)
  }
})

await t.test('ten thousand concurrent calls for an uncached tenant execute one query', async (t) => {
  const { app: { tenantConfigs, configLoader }, databaseUrl } = await buildTestApp(t)
  await tenantConfigs.create('acme', null, row)
  await slowReads(databaseUrl)
  const holder = await connect(t, databaseUrl)
  await holder.query('select pg_advisory_lock(7)')
  const calls = Promise.all(Array.from({ length: 10_000 }, async () => await configLoader.forTenant('acme')))
  await untilWaiting(databaseUrl, 1)
  await holder.query('select pg_advisory_unlock(7)')
  const snapshots = await calls
  t.equal(new Set(snapshots).size, 1)
  t.equal(snapshots[0]?.getAccessToken(), row.access_token)
  t.strictSame(
    await query(databaseUrl, 'select last_value::int as count, is_called from reads'),
    [{ count: 1, is_called: true }],
    'as PostgreSQL counts them'
  )
  t.match(configLoader.stats(), { misses: 10_000, loads: 1, hits: 0 })
})

await t.test('a load that started before a write returns the written values', async (t) => {
  const { app: { tenantConfigs, configLoader }, databaseUrl } = await buildTestApp(t)
  await slowReads(databaseUrl)
  const holder = await connect(t, databaseUrl)
  const writes: [string, () => Promise<unknown>, string | null][] = [
    ['update', async () => await tenantConfigs.update('update', { waba_id: 'new' }), 'new'],
    ['deactivate', async () => await tenantConfigs.setActive('deactivate', false), null],
    ['delete', async () => await tenantConfigs.remove('delete'), null],
    ['delete all', async () => await tenantConfigs.removeAll(1), null]
  ]
  for (const [tenant, write, expected] of writes) {
    await query(databaseUrl, 'delete from stored')
    await query(databaseUrl, "insert into stored (tenant_id, waba_id) values ($1, 'old')", [tenant])
    const wabaId = async () => (await configLoader.forTenant(tenant)).getWabaId()
    await holder.query('select pg_advisory_lock(7)')
    const early = wabaId()
    await untilWaiting(databaseUrl, 1)
    await write()
    const late = wabaId()
    await holder.query('select pg_advisory_unlock(7)')
    t.equal(await early, expected, `${tenant}: the early load read the old row, and was done again`)
    t.equal(await late, expected, `${tenant}: a call after the write does not join it`)
    t.equal(await wabaId(), expected, `${tenant}: it was not kept`)
  }
})

await t.test('a secret that does not open is an error, without .env fallback or cached entry', async (t) => {
  const { app: { tenantConfigs, configLoader }, databaseUrl } = await buildTestApp(t, env)
  await verifyEachRow(databaseUrl)
  await tenantConfigs.create('spoilt', null, row)
  for (const column of ['access_token', 'fb_app_secret', 'verify_token']) {
    await query(databaseUrl, `update tenant_configs set ${column} = 'v1.' || ${column}`)
    const codeOf = async (call: () => Promise<unknown>) =>
      await call().then(() => null, (err: unknown) => err instanceof Error && 'code' in err ? err.code : err)
    await until(async () => await codeOf(async () => await configLoader.forTenant('spoilt')) === 'SECRET_UNREADABLE')
    await t.rejects(configLoader.getWhatsappConfig('spoilt'), { code: 'SECRET_UNREADABLE' }, column)
    await t.rejects(configLoader.forPhoneNumber(row.phone_number_id), { code: 'SECRET_UNREADABLE' }, column)
    await t.rejects(configLoader.forWaba(row.waba_id), { code: 'SECRET_UNREADABLE' }, column)
    await query(databaseUrl, `update tenant_configs set ${column} = substr(${column}, 4)`)
    t.equal((await configLoader.forTenant('spoilt')).getAccessToken(), row.access_token)
  }
})

await t.test('a write that the database executes after its timeout becomes visible', async (t) => {
  const { app: { tenantConfigs, configLoader }, databaseUrl } = await buildTestApp(t)
  await tenantConfigs.create('acme', null, { waba_id: 'old' })
  // The update ignores its cancellation, so that the service times out first.
  await query(databaseUrl, `
    create function stubborn() returns trigger language plpgsql as $$ begin
      perform pg_advisory_xact_lock_shared(7);
      return new;
    exception when query_canceled then
      perform pg_advisory_xact_lock_shared(7);
      return new;
    end $$;
    create trigger stubborn before update on tenant_configs for each row execute function stubborn()`)
  const holder = await connect(t, databaseUrl)
  await holder.query('select pg_advisory_lock(7)')
  await t.rejects(tenantConfigs.update('acme', { waba_id: 'new' }), { code: 'DATABASE_UNAVAILABLE' })
  const kept = await configLoader.forTenant('acme')
  t.equal(kept.getWabaId(), 'old')
  t.equal(await configLoader.forTenant('acme'), kept, 'it is cached meanwhile')
  await holder.query('select pg_advisory_unlock(7)')
  await until(async () => (await configLoader.forTenant('acme')).getWabaId() === 'new')
  t.match(configLoader.stats(), { channel: 'up' })
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
