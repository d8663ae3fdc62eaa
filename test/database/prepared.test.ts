import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { and, asc, eq, gte, inArray, lte, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { createPooledDatabase } from '../../src/database/pool/pool.js'
import { tenantConfigs as table } from '../../src/database/schema/tenant-configs.js'
import { builder, prepare } from '../../src/database/statement.js'
import { buildTestApp } from '../helper.js'

const { tenant_id, phone_number_id, waba_id, token_expires_at, is_active } = table

/** The database of a service whose pool has one connection. */
async function createDb (t: Test) {
  const { app, databaseUrl } = await buildTestApp(t, { DATABASE_POOL_MAX: 1 })
  for (const tenant of ['a', 'b', 'c']) await app.tenantConfigs.create(tenant, null, { waba_id: '7' })
  return { app, db: app.database, databaseUrl }
}

await t.test('each placeholder gets its value, at any place and any number of times', async (t) => {
  const { db } = await createDb(t)
  const [from, to] = [sql.placeholder('from'), sql.placeholder('to')]
  const between = prepare(
    'between',
    builder.select({ tenant_id }).from(table).where(
      and(gte(tenant_id, from), lte(tenant_id, to), gte(tenant_id, from))
    ).orderBy(asc(tenant_id))
  )
  t.same(await db.run(between, { to: 'b', from: 'a' }), [{ tenant_id: 'a' }, { tenant_id: 'b' }])
  t.same(await db.run(between, { from: 'c', to: 'c', other: 'unused' }), [{ tenant_id: 'c' }])
  t.same(await db.run(between, { from: 'c', to: 'a' }), [])
  t.match(
    await db.run(sql`select statement from pg_prepared_statements where name like 'between!_%' escape '!'`),
    [{ statement: />= \$1 .*<= \$2 .*>= \$1/ }],
    'the server has one prepared statement'
  )

  const names = Array.from({ length: 12 }, (_, number) => `n${number}`)
  const each = names.map((name) => sql.placeholder(name))
  const twice = prepare(
    'twice',
    builder.select({ tenant_id }).from(table).where(
      and(inArray(tenant_id, each), inArray(tenant_id, each.toReversed()))
    )
  )
  for (const place of [0, 1, 9, 10, 11]) {
    t.same(
      await db.run(twice, { ...Object.fromEntries(names.map((name) => [name, null])), [`n${place}`]: 'b' }),
      [{ tenant_id: 'b' }],
      `at ${place}`
    )
  }

  const own = sql.placeholder('own')
  const insert = prepare(
    'insert',
    builder.insert(table).values({
      tenant_id: own,
      phone_number_id: own,
      waba_id: sql.placeholder('waba')
    }).returning({ tenant_id, phone_number_id, waba_id })
  )
  t.same(await db.run(insert, { own: '5', waba: null }), [{ tenant_id: '5', phone_number_id: '5', waba_id: null }])
})

await t.test('a missing value is an error, not null', async (t) => {
  const { databaseUrl } = await createDb(t)
  const pool = new pg.Pool({ connectionString: databaseUrl })
  // The database may be dropped before the server has closed the last connection.
  pool.on('error', () => {})
  t.teardown(async () => { await pool.end() })
  const db = createPooledDatabase(pool, { timeoutMs: 1600 })
  let sent = 0
  pool.on('acquire', () => { sent++ })
  const one = prepare(
    'one',
    builder.select({ tenant_id }).from(table).where(
      and(eq(tenant_id, sql.placeholder('key')), eq(waba_id, sql.placeholder('waba')))
    )
  )
  for (const values of [
    {}, { key: 'a' }, { key: 'a', waba: undefined }, { waba: '7', Key: 'a' }
  ]) await t.rejects(db.run(one, values), /^no value for (key|waba)$/)
  t.equal(sent, 0, 'no statement is sent')
  t.same(await db.run(one, { key: 'a', waba: '7' }), [{ tenant_id: 'a' }])
  t.equal(sent, 1)
})

await t.test('a constant in a prepared statement is refused', async (t) => {
  t.throws(
    () => prepare('constant', builder.select({ tenant_id }).from(table).where(eq(tenant_id, 'a'))),
    { message: 'a prepared statement takes placeholders only' }
  )
  t.throws(
    () => prepare('constant', builder.select({ tenant_id }).from(table).where(sql`${tenant_id} = ${'a'}`)),
    { message: 'a prepared statement takes placeholders only' }
  )
})

await t.test('an error contains no value', async (t) => {
  const { db } = await createDb(t)
  const canary = `canary-${randomBytes(8).toString('hex')}`
  const one = prepare('one', builder.select({ tenant_id }).from(table).where(eq(tenant_id, sql.placeholder('key'))))
  const err = await db.run(one, { key: `${canary}\0` }).catch((err: unknown) => err)
  t.match(err, { code: 'VALIDATION_FAILED' })
  t.notMatch(inspect(err, { depth: 9, showHidden: true }), canary)
  t.same(await db.run(one, { key: 'a' }), [{ tenant_id: 'a' }], 'the next statement works')
})

await t.test('times are formatted as by drizzle, other values as by pg', async (t) => {
  const { app, db } = await createDb(t)
  const at = '2027-01-22T12:00:00.001000Z'
  await app.tenantConfigs.update('a', { token_expires_at: at })
  const query = builder.select({ tenant_id, phone_number_id, token_expires_at, is_active }).from(table).where(
    eq(tenant_id, sql.placeholder('key'))
  )
  const rows = await db.run(prepare('times', query), { key: 'a' })
  t.same(rows, [{ tenant_id: 'a', phone_number_id: null, token_expires_at: at, is_active: true }])
  const pool = app.pg['tenantConfig']?.pool
  if (pool === undefined) throw new Error('no pool')
  t.same(
    rows,
    await drizzle(pool).select({
      tenant_id,
      phone_number_id,
      token_expires_at,
      is_active
    }).from(table).where(eq(tenant_id, 'a'))
  )
  await db.run(sql`update tenant_configs set token_expires_at = null where tenant_id = 'a'`)
  t.match(await db.run(prepare('times', query), { key: 'a' }), [{ token_expires_at: null }])
})
