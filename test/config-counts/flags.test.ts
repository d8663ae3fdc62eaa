import t from '../run/tap.js'
import { createDatabase, connect, queries, untilWaiting } from '../helper.js'

/** The watches whose flags are not those of their tenant. */
const different = `select tenant_id from token_watch left join tenant_configs config using (tenant_id)
  where (tenant_is_active, tenant_is_onboarded) is distinct from (is_active, onboarding_completed)`

await t.test('the flags in token_watch are those of the tenant after each kind of write', async (t) => {
  const sql = queries(t, await createDatabase(t))
  for (const write of [
    `insert into tenant_configs (tenant_id, access_token, is_active, onboarding_completed)
      select 't' || i, case when i % 3 > 0 then 'x' end, i % 2 > 0, i % 5 > 0 from generate_series(1, 60) i`,
    'update tenant_configs set is_active = not is_active where id % 4 = 0',
    'update tenant_configs set onboarding_completed = not onboarding_completed where id % 6 < 2',
    "update tenant_configs set is_active = true, access_token = 'y' where access_token is null",
    'update tenant_configs set is_active = (id % 2 = 0) where id in (5, 6, 7, 8)',
    `insert into tenant_configs (tenant_id, access_token) values ('t9', 'z'), ('new', 'z')
      on conflict (tenant_id) do update set is_active = false, onboarding_completed = true`,
    'delete from tenant_configs where id % 7 = 0',
    "insert into tenant_configs (tenant_id, access_token, is_active) values ('t7', 'x', false)"
  ]) {
    await sql(write)
    t.same(await sql(different), [], write)
    const pairs = await sql('select distinct tenant_is_active, tenant_is_onboarded from token_watch')
    t.equal(pairs.length, 4, 'each pair of flags occurs')
  }
})

await t.test('a watch that is inserted without the flags gets them, as by a former version', async (t) => {
  const url = await createDatabase(t)
  const sql = queries(t, url)
  await sql(`insert into tenant_configs (tenant_id, access_token, is_active)
    values ('a', 'x', false), ('b', 'x', true)`)
  await sql('delete from token_watch')
  const writer = await connect(t, url)
  await writer.query("begin; update tenant_configs set onboarding_completed = true where tenant_id = 'a'")
  const inserting = sql("insert into token_watch (tenant_id) values ('a'), ('b'), ('nobody')")
  await untilWaiting(url, 1)
  await writer.query('commit')
  await inserting
  t.same(await sql('select tenant_id, tenant_is_active, tenant_is_onboarded from token_watch order by 1'), [
    { tenant_id: 'a', tenant_is_active: false, tenant_is_onboarded: true },
    { tenant_id: 'b', tenant_is_active: true, tenant_is_onboarded: false },
    { tenant_id: 'nobody', tenant_is_active: null, tenant_is_onboarded: null }
  ])
})

await t.test('flags that change after such an insert are copied, too', async (t) => {
  const url = await createDatabase(t)
  const sql = queries(t, url)
  await sql("insert into tenant_configs (tenant_id, access_token) values ('a', 'x')")
  await sql('delete from token_watch')
  const inserter = await connect(t, url)
  await inserter.query("begin; insert into token_watch (tenant_id) values ('a')")
  const updating = sql('update tenant_configs set is_active = false')
  await untilWaiting(url, 1)
  await inserter.query('commit')
  await updating
  t.same(await sql('select tenant_is_active from token_watch'), [{ tenant_is_active: false }])
})
