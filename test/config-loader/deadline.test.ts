import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { ConfigNotFound, DatabaseUnavailable } from '../../src/errors.js'
import { buildTestApp, connect, query, until } from '../helper.js'

const unavailable = { code: 'DATABASE_UNAVAILABLE' }

/** Delays each SELECT of the configurations by 1.4 seconds; writes are not delayed. */
async function slowDown (url: string): Promise<void> {
  await query(url, `
    create function pause() returns boolean language plpgsql as $$ begin
      if current_query() ilike 'select%' then perform pg_sleep(1.4); end if;
      return true;
    end $$;
    alter table tenant_configs rename to stored;
    create view tenant_configs as select *, xmin from stored where pause();
    grant all on tenant_configs to public`)
}

/** The result or error of each call, and its duration. */
async function timed<T> (calls: Array<() => Promise<T>>): Promise<Array<{ value?: T, err?: unknown, ms: number }>> {
  return await Promise.all(calls.map(async (call) => {
    const asked = performance.now()
    const outcome = await call().then((value) => ({ value }), (err: unknown) => ({ err }))
    return { ...outcome, ms: performance.now() - asked }
  }))
}

function assertInTime (t: Test, outcomes: Array<{ ms: number }>): void {
  const slowest = Math.max(...outcomes.map(({ ms }) => ms))
  t.ok(slowest < 5000, `the slowest call took ${Math.round(slowest)} ms`)
}

await t.test('100 concurrent callers get an answer within 5 seconds when reads are slow', async (t) => {
  const { app: { configLoader, tenantConfigs }, databaseUrl } = await buildTestApp(
    t,
    { DATABASE_POOL_MAX: 2, CONFIG_CACHE_TTL_MS: 1000, CONFIG_FALLBACK: 'none' }
  )
  const known = Array.from({ length: 50 }, (_, number) => `known ${number}`)
  for (const tenant of known) {
    await tenantConfigs.create(tenant, null, {
      access_token: `token of ${tenant}`,
      waba_id: '7'
    })
  }
  await query(databaseUrl, 'update tenant_configs set last_verified_at = now()')
  await until(async () => (await configLoader.forWaba('7')).length === 50)
  for (const tenant of known) await configLoader.forTenant(tenant)
  await slowDown(databaseUrl)
  await delay(1000)

  const cold = Array.from({ length: 50 }, (_, number) => `cold ${number}`)
  const outcomes = await timed([...known, ...cold].map((tenant) => async () => await configLoader.forTenant(tenant)))
  assertInTime(t, outcomes)
  const [ofKnown, ofCold] = [outcomes.slice(0, 50), outcomes.slice(50)]
  t.same(ofKnown.map(({ value }) => value?.getAccessToken()), known.map((tenant) => `token of ${tenant}`))
  t.ok(ofKnown.some(({ value }) => value?.isStale()), 'some cached values are stale')
  t.ok(ofCold.every(({ err }) => err instanceof DatabaseUnavailable || err instanceof ConfigNotFound))
  t.ok(ofCold.some(({ err }) => err instanceof DatabaseUnavailable))

  await delay(1500)
  const lookups = await timed(['7', '8', '9'].map((id) => async () => await configLoader.forWaba(id)))
  assertInTime(t, lookups)
  t.equal(lookups[0]?.value?.length, 50)
  t.equal(configLoader.stats().channel, 'up', 'slow reads are no outage')
})

await t.test('forWaba returns at most 100 tenants, ordered by tenant id', async (t) => {
  const { app: { configLoader }, databaseUrl } = await buildTestApp(t)
  await query(
    databaseUrl,
    "insert into tenant_configs (tenant_id, waba_id, last_verified_at) select 'tenant ' || to_char(n, 'FM000'), '7', " +
      'now() from generate_series(1, 150) n'
  )
  await until(async () => (await configLoader.forWaba('7')).length === 100)
  t.same(
    (await configLoader.forWaba('7')).map((config) => config.getTenantId()),
    Array.from({ length: 100 }, (_, n) => `tenant ${String(n + 1).padStart(3, '0')}`)
  )
})

await t.test('all 100 concurrent callers fail within 5 seconds when the table stays locked', async (t) => {
  const { app: { configLoader }, databaseUrl } = await buildTestApp(t)
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('begin; lock table tenant_configs in access exclusive mode')
  const began = performance.now()
  await Promise.all(
    Array.from({ length: 100 }, async (_, i) => { await t.rejects(configLoader.forTenant(`tenant ${i}`), unavailable) })
  )
  t.ok(performance.now() - began < 5000, `${Math.round(performance.now() - began)} ms`)
  await lockHolder.query('rollback')
  t.equal((await configLoader.forTenant('tenant 0')).hasTenantConfig(), false)
})
