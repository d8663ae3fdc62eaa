import { sql } from 'drizzle-orm'
import t from '../../run/tap.js'
import { withReader } from '../../../src/database/connection.js'
import { stallingProxy } from '../../fixtures/proxies/stalling-proxy.js'
import { createDatabase, query } from '../../helper.js'

const failure = (reason: string) => new Error(`The database does not answer a question: ${reason}.`)

await t.test('a reader cannot write, and leaves no setting behind', async (t) => {
  const url = await createDatabase(t)
  const insert = sql`insert into phone_callbacks (phone_number_id) values ('1')`
  for (const statement of [insert, sql`create table of_reader ()`]) {
    const written = withReader(url, async (db) => await db.execute(statement))
    await t.rejects(written, failure('PostgreSQL refuses with SQLSTATE 25006'))
  }
  t.same(await query(url, 'select from phone_callbacks'), [])
  t.equal(await withReader(url, async () => 'read'), 'read')
  await t.rejects(withReader(url, async () => { throw new Error('a fault of ours') }), failure('a fault of ours'))
})

await t.test('a statement that takes too long is ended', async (t) => {
  const url = await createDatabase(t)
  const slow = withReader(url, async (db) => await db.execute(sql`select pg_sleep(60)`), { timeoutMs: 100 })
  await t.rejects(slow, failure('PostgreSQL refuses with SQLSTATE 57014'))
})

await t.test('a connection that dies during a statement is given up', async (t) => {
  const proxy = await stallingProxy(t, await createDatabase(t))
  const dead = withReader(proxy.url, async (db) => {
    proxy.stall()
    return await db.execute(sql`select 1`)
  }, { timeoutMs: 100 })
  await t.rejects(dead, failure('Query read timeout'))
  proxy.mend()
})
