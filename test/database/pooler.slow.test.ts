import { sql } from 'drizzle-orm'
import pg from 'pg'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { migrate, rollback } from '../../src/database/migrations/migrations.js'
import { createPooledDatabase } from '../../src/database/pool/pool.js'
import { tenantConfigs } from '../../src/database/schema/tenant-configs.js'
import { builder, prepare } from '../../src/database/statement.js'
import { startPgBouncer, withoutPgBouncer } from '../fixtures/postgres/pgbouncer.js'
import {
  baseEnv, buildTestApp, connect, createDatabase, makeUnreachable, query, until, untilWaiting
} from '../helper.js'

const needsPgBouncer = { skip: withoutPgBouncer }
const LOST = 'loses prepared statements'
const REFUSAL = { message: /^A pooler in transaction mode .* Set DATABASE_DIRECT_URL / }
const unavailable = { code: 'DATABASE_UNAVAILABLE' }

/** A database, and a PgBouncer in front of it. */
async function createPooled (t: Test, { empty = false, ...options }: Parameters<typeof startPgBouncer>[1] & {
  empty?: boolean
} = {}) {
  const direct = await createDatabase(t, { empty })
  const pgBouncer = await startPgBouncer(direct, options)
  t.teardown(pgBouncer.stop)
  return { direct, pooled: pgBouncer.urlOf(direct) }
}

await t.test('two services behind a pooler serve all tenants, each its own row', needsPgBouncer, async (t) => {
  const { direct, pooled } = await createPooled(t, { poolSize: 3 })
  const settings = { DATABASE_URL: pooled, DATABASE_DIRECT_URL: direct, CONFIG_CACHE_TTL_MS: 1 }
  const services = [await buildTestApp(t, settings), await buildTestApp(t, settings)]
  // Few enough that no request waits long for one of the three connections, also on a busy machine.
  const tenants = Array.from({ length: 10 }, (_, number) => `tenant-${number}`)
  for (let round = 0; round < 3; round++) {
    await Promise.all(services.flatMap(({ app, as }, instance) => tenants.map(async (tenant) => {
      const own = `${tenant}-${instance}`
      const request = { url: '/api/v1/tenant/config', headers: as(own) }
      const identity = { waba_id: `${own}-${round}`, access_token: `token-of-${own}` }
      const written = await app.inject({ ...request, method: round === 0 ? 'POST' : 'PUT', payload: identity })
      t.ok(written.statusCode < 300, written.body)
      t.match((await app.inject(request)).json(), { tenant_id: own, waba_id: identity.waba_id })
      const snapshot = await app.configLoader.forTenant(own)
      t.strictSame([snapshot.getWabaId(), snapshot.getAccessToken()], Object.values(identity))
    })))
  }
  for (const { app, log } of services) {
    t.equal(log().split(LOST).length, 2, 'the loss is logged once')
    t.equal(app.configLoader.stats().channel, 'up')
  }
})

await t.test('DATABASE_PREPARED=false prepares nothing', needsPgBouncer, async (t) => {
  const { direct, pooled } = await createPooled(t, { poolSize: 1 })
  const { app, as, log } = await buildTestApp(t, {
    DATABASE_URL: pooled, DATABASE_DIRECT_URL: direct, DATABASE_PREPARED: false
  })
  t.equal((await app.inject({ url: '/api/v1/tenant/config', headers: as('acme') })).statusCode, 404)
  await app.configLoader.forTenant('acme')
  t.same(await query(pooled, 'select name from pg_prepared_statements'), [])
  t.same(await query(pooled, 'show lock_timeout'), [{ lock_timeout: '0' }], 'nor does a setting stay')
  t.notMatch(log(), LOST)
})

await t.test('a statement times out in PostgreSQL, and does not run later', needsPgBouncer, async (t) => {
  const { direct, pooled } = await createPooled(t)
  const { app: { tenantConfigs, database } } = await buildTestApp(t, {
    DATABASE_URL: pooled, DATABASE_DIRECT_URL: direct
  })
  const lockHolder = await connect(t, direct)
  await lockHolder.query('begin; lock table tenant_configs in access exclusive mode')
  const began = performance.now()
  const insert = sql`insert into tenant_configs (tenant_id) values ('alone')`
  await Promise.all([
    t.rejects(database.count(insert), { ...unavailable, cause: { code: '57014' } }),
    t.rejects(tenantConfigs.create('acme', null, { waba_id: '1' }), { ...unavailable, cause: { code: '57014' } }),
    t.rejects(database.transaction(async (tx) => await tx.count(insert)), { ...unavailable, cause: { code: '57014' } })
  ])
  t.ok(performance.now() - began < 5000, 'within 5 s')
  await untilWaiting(direct, 0)
  await lockHolder.query('commit')
  t.same(await query(direct, 'select tenant_id from tenant_configs'), [])
  t.equal(await database.count(insert), 1, 'the next statement works')
})

await t.test('an outage is noticed although the pooler accepts connections', needsPgBouncer, async (t) => {
  const { direct, pooled } = await createPooled(t)
  const { app: { database } } = await buildTestApp(t, { DATABASE_URL: pooled, DATABASE_DIRECT_URL: direct })
  await t.resolves(database.probe())
  const restore = await makeUnreachable(direct)
  await t.rejects(database.probe())
  await restore()
  await until(async () => await database.probe().then(() => true, () => false))
})

await t.test('a failed statement rolls back, a failed commit is an error', needsPgBouncer, async (t) => {
  const { direct, pooled } = await createPooled(t, { poolSize: 1 })
  const { app: { database } } = await buildTestApp(t, { DATABASE_URL: pooled, DATABASE_DIRECT_URL: direct })
  await t.rejects(database.run(sql`select 1 / 0`), { code: 'VALIDATION_FAILED' })
  await query(
    direct,
    'create table deferred (id int unique deferrable initially deferred); grant all on deferred to public'
  )
  await t.rejects(database.count(sql`insert into deferred values (1), (1)`), { code: '23505' })
  t.same(await database.run(sql`select id from deferred`), [])
  t.equal(await database.count(sql`insert into deferred values (1)`), 1)
})

await t.test('a transaction with a misplaced statement runs once more, without names', needsPgBouncer, async (t) => {
  const { pooled } = await createPooled(t, { poolSize: 1 })
  const pool = new pg.Pool({ connectionString: pooled, max: 1 })
  t.teardown(async () => { await pool.end() })
  const lines: string[] = []
  const database = createPooledDatabase(pool, {
    timeoutMs: 1600,
    log: { warn: (line) => { lines.push(line) } }
  })
  const all = prepare('all', builder.select({ tenant_id: tenantConfigs.tenant_id }).from(tenantConfigs))
  // Another client of the pooler has prepared the same.
  await query(pooled, `prepare "${all.name}" as ${all.text}`)
  let runs = 0
  t.same(await database.transaction(async (tx) => {
    runs++
    await tx.run(sql`insert into tenant_configs (tenant_id) values ('acme')`)
    return await tx.run(all)
  }), [{ tenant_id: 'acme' }])
  t.equal(runs, 2)
  t.match(lines, [LOST])
  t.same(await database.run(all), [{ tenant_id: 'acme' }])
  t.equal(lines.length, 1)
})

await t.test('statements with one name but another text have different names', async (t) => {
  const name = (column: typeof tenantConfigs.tenant_id | typeof tenantConfigs.waba_id) =>
    prepare('same', builder.select({ column }).from(tenantConfigs)).name
  t.equal(name(tenantConfigs.waba_id), name(tenantConfigs.waba_id))
  t.not(name(tenantConfigs.waba_id), name(tenantConfigs.tenant_id))
})

await t.test('a migration needs a connection of its own', needsPgBouncer, async (t) => {
  const { direct, pooled } = await createPooled(t, { empty: true })
  await t.rejects(migrate(pooled), REFUSAL)
  t.same(await query(direct, "select where to_regclass('tenant_configs') is not null"), [])
  await t.rejects(buildTestApp(t, { DATABASE_URL: pooled, DATABASE_DIRECT_URL: '', MIGRATE_ON_START: true }), REFUSAL)
  await buildTestApp(t, { DATABASE_URL: pooled, DATABASE_DIRECT_URL: direct, MIGRATE_ON_START: true })
  await t.rejects(rollback(pooled, async () => true), REFUSAL)

  const { pooled: session } = await createPooled(t, { empty: true, mode: 'session' })
  t.ok((await migrate(session)).length > 0, 'a pooler in session mode keeps it')
})

await t.test('without DATABASE_DIRECT_URL the loader lives by its blind TTL', needsPgBouncer, async (t) => {
  const { direct, pooled } = await createPooled(t)
  const { app: { configLoader }, log } = await buildTestApp(t, {
    ...baseEnv, DATABASE_URL: pooled, DATABASE_DIRECT_URL: '', CONFIG_CACHE_BLIND_TTL_MS: 200
  })
  t.match(log(), 'changes of configurations are not heard')
  t.equal(configLoader.stats().channel, 'down')
  t.notOk((await configLoader.forTenant('acme')).hasTenantConfig())
  await query(direct, "insert into tenant_configs (tenant_id) values ('acme')")
  await until(async () => (await configLoader.forTenant('acme')).hasTenantConfig())
})
