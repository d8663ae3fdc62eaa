import { sql } from 'drizzle-orm'
import t from '../run/tap.js'
import { createFolder } from '../../src/config-counts/config-counts.js'
import { buildTestApp, connect, createDatabase, until } from '../helper.js'
import { countedDatabase } from './plain-counts.js'

const unfolded = 'select count(*)::int as count from config_count_changes'

await t.test('a batch bounds a fold; each batch leaves the statistics as they are', async (t) => {
  const { run, fold, assertExact } = await countedDatabase(t)
  for (const id of ['a', 'b', 'c']) {
    await run(`insert into tenant_configs (tenant_id, access_token, token_expires_at) values ('${id}', 'x', now())`)
  }
  t.match(await run(unfolded), [{ count: 21 }])
  const before = await assertExact('unfolded')
  for (const expected of [10, 10, 1, 0]) {
    t.equal(await fold(10), expected)
    t.strictSame(await assertExact('folded'), before)
  }
  t.match(await run("select count from config_counts where name = 'total'"), [{ count: '3' }])
})

await t.test('a count that falls to 0 is deleted: dates that a tenant changes leave nothing behind', async (t) => {
  const { run, fold, assertExact } = await countedDatabase(t)
  await run("insert into tenant_configs (tenant_id, access_token) values ('a', 'x')")
  await fold()
  const rows = async () => (await run('select source, name from config_counts order by 1, 2'))
  const before = await rows()
  for (let i = 0; i < 50; i++) {
    await run(`update tenant_configs set token_expires_at = '2030-01-01Z'::timestamptz + ${i} * interval '25 hours'`)
    await fold()
    await assertExact('with a date')
  }
  await run('update tenant_configs set token_expires_at = null')
  await fold()
  t.same(await rows(), before)
  await run('delete from tenant_configs')
  await fold()
  t.same(await rows(), [])
})

await t.test('one process at a time folds', async (t) => {
  const { url, run, fold, assertExact } = await countedDatabase(t)
  await run("insert into tenant_configs (tenant_id) values ('a')")
  const other = await connect(t, url)
  await other.query('begin; select config_counts_fold(1)')
  t.equal(await fold(), 0)
  await assertExact('while another folds')
  await other.query('commit')
  t.equal(await fold(), 2)
  await assertExact('afterwards')
})

await t.test('statements other than ours insert no counts', async (t) => {
  const { run, assertExact } = await countedDatabase(t)
  await run("insert into tenant_configs (tenant_id) values ('a')")
  for (const mode of ['origin', 'replica']) {
    await run(`set session_replication_role = ${mode}`)
    for (const table of ['config_counts', 'config_count_changes']) {
      await run(`insert into ${table} values ('tenant_configs', 'total', '-infinity', 5)`)
      await run(`copy ${table} from program 'echo tenant_configs,total,-infinity,5' with (format csv)`)
    }
  }
  t.match(await assertExact('afterwards'), { total: 1 })
})

await t.test('a service folds at its start, then every 5 seconds, and not after it closes', async (t) => {
  const url = await createDatabase(t)
  const { run } = await countedDatabase(t, url)
  await run('insert into tenant_configs (tenant_id) select i from generate_series(1, 10) i')
  const { app } = await buildTestApp(t, { DATABASE_URL: url })
  const isFolded = async () => (await run(unfolded))[0]?.count === 0
  await until(isFolded)
  await run('delete from tenant_configs')
  await until(isFolded)
  t.same(await run('select from config_counts'), [])
  await app.close()
  const closing = new AbortController()
  closing.abort()
  await run("insert into tenant_configs (tenant_id) values ('late')")
  const folder = createFolder({ ...app, closing: closing.signal })
  folder.start()
  await folder.stop()
  t.equal(await isFolded(), false, 'a closing service folds nothing')
})

await t.test('a service folds more than a batch at once, and logs a failure', async (t) => {
  const { app, databaseUrl, log } = await buildTestApp(t)
  const { run } = await countedDatabase(t, databaseUrl)
  await run('alter function config_counts_fold rename to away')
  const folder = createFolder({ ...app, closing: new AbortController().signal })
  folder.start()
  await until(() => log().includes('the changes of counts could not be folded'))
  await app.database.run(sql`insert into tenant_configs (tenant_id, access_token, token_expires_at)
    select i, 'x', now() + i * interval '1 day' from generate_series(1, 6000) i`)
  await run('alter function away rename to config_counts_fold')
  folder.wake()
  await until(async () => (await run(unfolded))[0]?.count === 0)
  await folder.stop()
  t.match(await run("select count from config_counts where name = 'total'"), [{ count: '6000' }])
})
