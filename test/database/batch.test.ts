import { sql } from 'drizzle-orm'
import pg from 'pg'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { createPooledDatabase } from '../../src/database/pool/pool.js'
import { tenantConfigs } from '../../src/database/schema/tenant-configs.js'
import { builder, prepare } from '../../src/database/statement.js'
import { createDatabase, query } from '../helper.js'

const settings = sql<{ tenant: string, actor: string, limit: string }>`
  select current_setting('app.tenant_id', true) as tenant, current_setting('app.actor', true) as actor,
    current_setting('statement_timeout') as limit`

/** A database through one connection, which therefore serves every statement. */
async function createSingle (t: Test) {
  const url = await createDatabase(t)
  const pool = new pg.Pool({ connectionString: url, max: 1 })
  pool.on('error', () => {})
  t.teardown(async () => { await pool.end() })
  return { url, pool, database: createPooledDatabase(pool, { timeoutMs: 1600 }) }
}

await t.test('a scope holds for its own transactions, and for nothing after them', async (t) => {
  const { database } = await createSingle(t)
  const scoped = database.as({ tenantId: 'acme', actor: 'ann' })
  const [none] = await database.run(settings)
  t.match(none, { limit: '0' })
  for (let times = 0; times < 3; times++) {
    t.same(await scoped.run(settings), [{ tenant: 'acme', actor: 'ann', limit: '1600ms' }])
    t.same(await database.run(settings), [{ tenant: '', actor: '', limit: '0' }])
    await scoped.transaction(async (tx) => {
      t.same(await tx.run(settings), [{ tenant: 'acme', actor: 'ann', limit: '1600ms' }])
      t.same(await tx.run(settings), [{ tenant: 'acme', actor: 'ann', limit: '1600ms' }])
    })
    t.same(await database.as({}).run(settings), [{ tenant: '', actor: '', limit: '1600ms' }])
    await t.rejects(scoped.run(sql`select 1 / 0`), { code: 'VALIDATION_FAILED' })
    const divide = scoped.transaction(async (tx) => await tx.run(sql`select 1 / 0`))
    await t.rejects(divide, { code: 'VALIDATION_FAILED' })
    t.same(await database.run(settings), [{ tenant: '', actor: '', limit: '0' }])
  }
})

await t.test('the statements of a scope time out', async (t) => {
  const { pool } = await createSingle(t)
  const database = createPooledDatabase(pool, { timeoutMs: 50 })
  await t.rejects(database.as({}).run(sql`select pg_sleep(5)`), { cause: { code: '57014' } })
  await t.rejects(createPooledDatabase(pool, { timeoutMs: 50, isBehindPooler: true }).run(sql`select pg_sleep(5)`),
    { cause: { code: '57014' } })
})

await t.test('a prepared statement is prepared and described once for a connection', async (t) => {
  const { url, pool, database } = await createSingle(t)
  await query(url, "insert into tenant_configs (tenant_id, waba_id) values ('acme', '1'), ('beta', null)")
  const { tenant_id, waba_id, is_active } = tenantConfigs
  const list = prepare('some', builder.select({ tenant_id, waba_id, is_active }).from(tenantConfigs))
  const client = await pool.connect()
  const messages: string[] = []
  for (const name of ['parseComplete', 'rowDescription']) {
    Object(client).connection.on(name, () => { messages.push(name) })
  }
  client.release()
  const rows = [
    { tenant_id: 'acme', waba_id: '1', is_active: true }, { tenant_id: 'beta', waba_id: null, is_active: true }
  ]
  for (let times = 0; times < 3; times++) t.strictSame((await database.run(list)).map((row) => ({ ...row })), rows)
  t.same(messages, ['parseComplete', 'rowDescription'])
  messages.length = 0
  for (let times = 0; times < 2; times++) await database.run(sql`select 1 as one`)
  t.same(messages, ['parseComplete', 'rowDescription', 'parseComplete', 'rowDescription'], 'the others each time')
})

await t.test('after a failed statement the connection serves the next one, prepared or not', async (t) => {
  const { database } = await createSingle(t)
  const divide = prepare('divide', builder.select({ n: sql<number>`1 / ${sql.placeholder('by')}::int`.as('n') })
    .from(sql`(values (1)) as one`))
  const scoped = database.as({ tenantId: 'acme' })
  for (const db of [database, scoped, database]) {
    await t.rejects(db.run(divide, { by: 0 }), { code: 'VALIDATION_FAILED' })
    t.same(await db.run(divide, { by: 1 }), [{ n: 1 }])
    await t.rejects(db.run(sql`select nonsense`), { code: '42703' })
    t.equal(await db.count(sql`update tenant_configs set waba_id = null`), 0)
  }
})
