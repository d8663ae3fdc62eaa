import { setTimeout as delay } from 'node:timers/promises'
import { eq, sql } from 'drizzle-orm'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { tenantConfigs } from '../../src/database/schema/tenant-configs.js'
import { builder, prepare } from '../../src/database/statement.js'
import { buildTestApp, connect, query, until, untilWaiting, withoutWall } from '../helper.js'

const unavailable = { code: 'DATABASE_UNAVAILABLE' }
const isOurs = "datname = current_database() and application_name = 'whatsapp-tenant-config'"

/** A service with one pooled connection, and a function that returns the pid of its backend. */
async function createSingleConnection (t: Test) {
  const { app, databaseUrl } = await buildTestApp(t, { ...withoutWall, DATABASE_POOL_MAX: 1 })
  const { database } = app
  const pid = async () => (await database.run(sql<{ pid: number }>`select pg_backend_pid() as pid`))[0]?.pid
  return { app, database, pid, databaseUrl }
}

await t.test('a statement that PostgreSQL refuses leaves its connection in the pool', async (t) => {
  const { app, database, pid } = await createSingleConnection(t)
  const before = await pid()
  const duplicate = sql`insert into vault_keys (key_id, check_value) select key_id, check_value from vault_keys`
  const select = prepare(
    'one',
    builder.select().from(tenantConfigs).where(eq(tenantConfigs.tenant_id, sql.placeholder('key')))
  )
  for (let times = 0; times < 30; times++) {
    await t.rejects(database.transaction(async (tx) => await tx.run(duplicate)), { code: '23505' })
    await t.rejects(database.transaction(async (tx) => await tx.run(duplicate)), { code: '23505' })
    await t.rejects(database.run(duplicate), { code: '23505' })
    await t.rejects(database.run(select, { key: '\0' }), { code: 'VALIDATION_FAILED' })
    await t.rejects(database.transaction(async () => { throw new TypeError('caller') }), { message: 'caller' })
  }
  await t.rejects(app.tenantConfigs.create('acme', null, { waba_id: '\0' }), { code: 'VALIDATION_FAILED' })
  t.equal(await pid(), before)
})

await t.test('a connection with an unanswered statement is not used again', async (t) => {
  const { database, pid } = await createSingleConnection(t)
  const sleep = sql`select pg_sleep(20)`
  const hang: Record<string, () => Promise<unknown>> = {
    'in a transaction': async () => await database.transaction(async (tx) => {
      await tx.run(sql`set local statement_timeout = 0`)
      await tx.run(sleep)
    }),
    'in a transaction whose work has its error translated': async () => await database.transaction(async (tx) => {
      await tx.run(sql`set local statement_timeout = 0`)
      await tx.run(sleep)
    }),
    alone: async () => {
      await database.run(sql`set statement_timeout = 0`)
      await database.run(sleep)
    }
  }
  for (const [what, work] of Object.entries(hang)) {
    const before = await pid()
    await t.rejects(work(), { ...unavailable, cause: { message: 'Query read timeout' } }, what)
    const asked = performance.now()
    t.not(await pid(), before, `${what}: the next statement has another connection`)
    t.ok(performance.now() - asked < 1500, 'the next statement does not wait')
  }
})

await t.test('a connection with a cancelled or an outdated statement is not used again', async (t) => {
  const { database, pid, databaseUrl } = await createSingleConnection(t)
  const raise = async (code: string) => {
    await database.run(sql.raw(`do $$ begin raise exception 'x' using errcode = '${code}'; end $$`))
  }
  const unavailableCodes = ['08006', '57014', '57P01', '40001', '53100', '55P03']
  const lostCodes = ['08006', '57014', '57P01', '25P03', '25P04', '0A000', '26000', '42P05']
  for (const code of [...lostCodes, '23505', '40001', '53100', '55P03', 'P0001']) {
    const before = await pid()
    await t.rejects(raise(code), unavailableCodes.includes(code) ? { ...unavailable, cause: { code } } : { code })
    t.equal(await pid() !== before, lostCodes.includes(code), code)
  }
  for (const isTranslated of [false, true]) {
    const before = await pid()
    await t.rejects(database.transaction(async (tx) => {
      const cancelled = tx.run(sql`select pg_cancel_backend(pg_backend_pid()), pg_sleep(5)`)
      await (isTranslated ? cancelled : cancelled)
    }), { ...unavailable, cause: { code: '57014' } })
    t.not(await pid(), before)
  }

  const all = prepare(
    'all',
    builder.select().from(tenantConfigs).where(eq(tenantConfigs.tenant_id, sql.placeholder('key')))
  )
  t.same(await database.run(all, { key: 'a' }), [])
  await query(databaseUrl, 'alter table tenant_configs alter column user_id type varchar(300)')
  await t.rejects(database.run(all, { key: 'a' }), { code: '0A000' })
  t.same(await database.run(all, { key: 'a' }), [], 'the next connection prepares it anew')
})

await t.test('no read fails when backends are terminated', async (t) => {
  const { app, databaseUrl, as, admin } = await buildTestApp(t, { ...withoutWall, CONFIG_CACHE_TTL_MS: 1 })
  const { configLoader, tenantConfigs, tokenWatch } = app
  await tenantConfigs.create('acme', null, { access_token: 'token', waba_id: '7', phone_number_id: '8' })
  const get = async (url: string, headers = {}) => {
    const { statusCode, body } = await app.inject({ url, headers })
    if (statusCode !== 200) throw new Error(body)
  }
  const reads: Array<() => Promise<unknown>> = [
    async () => await configLoader.forTenant('acme'),
    async () => await configLoader.forWaba('7'),
    async () => await configLoader.forPhoneNumber('8'),
    async () => await configLoader.explain('acme'),
    async () => await tokenWatch.healthOf('acme'),
    async () => { await get('/api/v1/tenant/config', as('acme')) },
    async () => { await get('/api/v1/tenant/admin/configs/all', admin) },
    async () => { await get('/api/v1/tenant/admin/configs/all?token_status=unverified', admin) },
    async () => { await get('/api/v1/tenant/admin/configs/stats', admin) },
    async () => { await get('/health/ready') }
  ]
  const ending = new AbortController()
  const done = reads.map(() => 0)
  const failures: unknown[] = []
  const reading = reads.map(async (read, number) => {
    while (!ending.signal.aborted) {
      await read().catch((err: unknown) => { failures.push(err) })
      done[number] = Number(done[number]) + 1
    }
  })
  const killer = await connect(t, databaseUrl)
  let killed = 0
  for (let times = 0; times < 40; times++) {
    const { rowCount } = await killer.query(`select pg_terminate_backend(pid) from pg_stat_activity where ${isOurs}`)
    killed += Number(rowCount)
    const before = [...done]
    await until(() => done.every((count, number) => count > Number(before[number])))
  }
  ending.abort()
  await Promise.all(reading)
  t.same(failures, [], `${killed} backends were terminated, ${done.reduce((sum, count) => sum + count)} reads done`)
  t.ok(killed >= 40)
})

await t.test('a write whose backend is terminated is not repeated', async (t) => {
  const { database, databaseUrl } = await createSingleConnection(t)
  await query(databaseUrl, 'create table counted (n int); create sequence attempts')
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('begin; lock table counted')
  const write = t.rejects(
    database.run(sql`insert into counted select nextval('attempts')`),
    { ...unavailable, cause: { code: '57P01' } }
  )
  await untilWaiting(databaseUrl, 1)
  await query(databaseUrl, `select pg_terminate_backend(pid) from pg_stat_activity where ${isOurs}`)
  await write
  await lockHolder.query('rollback')
  await delay(100)
  t.same(await query(databaseUrl, 'select * from counted'), [])
})

await t.test('a read has up to five attempts if its connection is lost, and one if cancelled', async (t) => {
  const { database, databaseUrl } = await createSingleConnection(t)
  const attempt = async (what: string, code: string) => {
    await query(databaseUrl, 'create sequence attempts')
    await t.rejects(
      database.run(sql.raw(`select nextval('attempts'), ${what}, pg_sleep(1)`)),
      { ...unavailable, cause: { code } }
    )
    const [{ attempts } = {}] = await query(databaseUrl, 'select last_value::int as attempts from attempts')
    await query(databaseUrl, 'drop sequence attempts')
    return Number(attempts)
  }
  const terminated = await attempt('pg_terminate_backend(pg_backend_pid())', '57P01')
  t.ok(terminated > 1 && terminated <= 5, `${terminated} attempts`)
  t.equal(await attempt('pg_cancel_backend(pg_backend_pid())', '57014'), 1)
})

await t.test('a repeated read uses no connection that was open before the loss', async (t) => {
  const { app: { database }, databaseUrl } = await buildTestApp(t, { ...withoutWall, DATABASE_POOL_MAX: 5 })
  await query(databaseUrl, 'create sequence attempts')
  const pid = async (more: string) =>
    (await database.run(sql<{ pid: number }>`select pg_backend_pid() as pid, ${sql.raw(more)}`))[0]?.pid
  const older = await Promise.all(Array.from({ length: 5 }, async () => await pid('pg_sleep(0.2)')))
  t.equal(new Set(older).size, 5)
  const own = await pid(
    "case nextval('attempts') when 1 then pg_terminate_backend(pg_backend_pid()) and pg_sleep(1) is null end"
  )
  t.notOk(older.includes(own))
  t.match(await query(databaseUrl, 'select last_value::int as attempts from attempts'), [{ attempts: 2 }])
})

await t.test('a read that loses its connection late is not repeated', async (t) => {
  const { database, databaseUrl } = await createSingleConnection(t)
  await query(databaseUrl, 'create sequence attempts')
  const late = "select nextval('attempts'), pg_sleep(1.51), pg_terminate_backend(pg_backend_pid()), pg_sleep(1)"
  await t.rejects(database.run(sql.raw(late)), unavailable)
  t.match(await query(databaseUrl, 'select last_value::int as attempts from attempts'), [{ attempts: 1 }])
})

await t.test('a transaction without a free connection fails with DATABASE_UNAVAILABLE', async (t) => {
  const { app, database } = await createSingleConnection(t)
  const client = await app.pg['tenantConfig']?.pool.connect()
  await t.rejects(database.transaction(async () => {}), {
    ...unavailable,
    cause: { message: 'no connection became free in time' }
  })
  client?.release()
  await t.resolves(database.transaction(async () => {}))
})
