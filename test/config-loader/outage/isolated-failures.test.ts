import type { Test } from 'tap'
import t from '../../run/tap.js'
import { slowReads } from '../slow-reads.js'
import { serviceRole } from '../../fixtures/service-role.js'
import { buildTestApp, connect, createDatabase, query, until, untilWaiting } from '../../helper.js'

const envToken = { WHATSAPP_PHONE_ID: '99', WHATSAPP_TOKEN: 'token of env' }
const unavailable = { code: 'DATABASE_UNAVAILABLE' }

/** A service with a known, an inactive and some uncached tenants. Each load waits until `release` frees lock 7. */
async function createBusy (t: Test, asOwner: string, env: Record<string, string> = {}) {
  const { app } = await buildTestApp(t, { ...envToken, CONFIG_CACHE_TTL_MS: 60_000, DATABASE_URL: asOwner, ...env })
  const { tenantConfigs, configLoader } = app
  for (const tenant of [
    'known', 'inactive', 'cold', 'other'
  ]) await tenantConfigs.create(tenant, null, { access_token: `token of ${tenant}` })
  await tenantConfigs.setActive('inactive', false)
  // The notification of each write invalidates a second time.
  await until(() => configLoader.stats().invalidations >= 12)
  await slowReads(asOwner)
  await query(
    asOwner,
    'grant all on all tables in schema public to public; grant all on all sequences in schema public to public'
  )
  for (const tenant of ['known', 'inactive', 'missing']) await configLoader.forTenant(tenant)
  const lockHolder = await connect(t, asOwner)
  await lockHolder.query('select pg_advisory_lock(7)')
  /** Asserts that cached tenants still get fresh answers. */
  const assertUndisturbed = async (what: string) => {
    for (const [tenant, token] of [
      ['known', 'token of known'], ['inactive', 'token of env'], ['missing', 'token of env']
    ] as const) {
      const snapshot = await configLoader.forTenant(tenant)
      t.strictSame([snapshot.getAccessToken(), snapshot.isStale()], [token, false], `${tenant}, ${what}`)
    }
  }
  const release = async () => { await lockHolder.query('select pg_advisory_unlock(7)') }
  return { app, configLoader, assertUndisturbed, release }
}

await t.test('one cancelled statement does not affect other callers', async (t) => {
  const databaseUrl = await createDatabase(t)
  const { app, configLoader, assertUndisturbed, release } = await createBusy(t, databaseUrl)
  const cold = t.rejects(configLoader.forTenant('cold'), unavailable)
  await untilWaiting(databaseUrl, 1)
  const pids = "select pid from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"
  const [{ pid } = {}] = await query(databaseUrl, pids)
  const other = configLoader.forTenant('other')
  await untilWaiting(databaseUrl, 2)
  await query(databaseUrl, 'select pg_cancel_backend($1)', [pid])
  await cold
  await assertUndisturbed('at once')
  await app.database.probe()
  await app.database.probe()
  await assertUndisturbed('after a probe')
  await release()
  t.equal((await other).getAccessToken(), 'token of other')
  t.equal((await configLoader.forTenant('cold')).getAccessToken(), 'token of cold', 'the next call reads again')
  t.match(configLoader.stats(), { stale_serves: 0, channel: 'up' })
})

await t.test('a role at its connection limit is no outage', async (t) => {
  const databaseUrl = await createDatabase(t)
  const { role, url: asRole } = await serviceRole(t, databaseUrl, 'one')
  const { app, configLoader, assertUndisturbed, release } = await createBusy(t, databaseUrl, { DATABASE_URL: asRole })
  await query(databaseUrl, `alter role ${role} connection limit 2`)
  const refused: unknown[] = []
  const asked = Array.from(
    { length: 10 },
    async (_, number) => await configLoader.forTenant(`cold ${number}`).then(
      (snapshot) => snapshot.getAccessToken(),
      (err: unknown) => { refused.push(err) }
    )
  )
  await until(() => refused.length > 0)
  t.match(refused[0], { ...unavailable, cause: { code: '53300' } })
  await assertUndisturbed('at once')
  await app.database.probe()
  await app.database.probe()
  await assertUndisturbed('after a probe')
  await release()
  t.ok((await Promise.all(asked)).includes('token of env'), 'a load with a connection succeeds')
  t.equal((await configLoader.forTenant('other')).getAccessToken(), 'token of other')
  t.match(configLoader.stats(), { stale_serves: 0, channel: 'up' })
})

await t.test('five hundred concurrent loads of unknown tenants queue, and all succeed', async (t) => {
  const { app } = await buildTestApp(t, { ...envToken, CONFIG_CACHE_MAX: 100_000 })
  const { configLoader } = app
  const ids = Array.from({ length: 500 }, (_, number) => `cold ${number}`)
  const outcomes = await Promise.allSettled(ids.map(async (id) => (await configLoader.forTenant(id)).getAccessToken()))
  t.strictSame(
    new Set(outcomes.map((outcome) => outcome.status === 'fulfilled' ? outcome.value : outcome.reason)),
    new Set(['token of env'])
  )
  t.match(configLoader.stats(), { loads: 500, entries: { tenants: 500 }, channel: 'up' })
})

await t.test('a closed loader serves nothing, not even cached entries', async (t) => {
  const databaseUrl = await createDatabase(t)
  const { app, configLoader, release } = await createBusy(t, databaseUrl, { DATABASE_POOL_MAX: '2' })
  const { loads } = configLoader.stats()
  const running = ['cold', 'other', 'third', 'fourth'].map(
    async (tenant) => await configLoader.forTenant(tenant).then(
      (snapshot) => snapshot.getAccessToken(),
      ({ code }) => code
    )
  )
  await until(() => configLoader.stats().loads === loads + 4)
  await untilWaiting(databaseUrl, 2)
  const closed = app.close()
  await until(() => configLoader.stats().channel === 'down')
  await release()
  t.strictSame(
    await Promise.all(running),
    ['token of cold', 'token of other', 'DATABASE_UNAVAILABLE', 'DATABASE_UNAVAILABLE'],
    'running reads finish, queued reads do not start'
  )
  await closed
  for (const tenant of [
    'known', 'inactive', 'missing', 'cold'
  ]) await t.rejects(configLoader.forTenant(tenant), unavailable, tenant)
  await t.rejects(configLoader.forPhoneNumber('1'), unavailable)
  await t.rejects(configLoader.forWaba('7'), unavailable)
  await t.rejects(configLoader.explain('known'), unavailable)
  t.match(configLoader.stats().entries, { tenants: 0, phone_numbers: 0, wabas: 0 })
})
