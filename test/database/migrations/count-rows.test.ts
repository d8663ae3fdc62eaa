import t from '../../run/tap.js'
import { migrate } from '../../../src/database/migrations/migrations.js'
import { countedDatabase } from '../../config-counts/plain-counts.js'
import { firstMigrations, tags } from '../../fixtures/migrations.js'
import { buildTestApp, connect, createDatabase, query, untilWaiting } from '../../helper.js'

/** How many migrations precede the counts. */
const FORMER = tags.findIndex((tag) => tag.endsWith('_counts'))

const rows = `
  insert into tenant_configs (tenant_id, access_token, token_expires_at, is_active, onboarding_completed,
    phone_number_id)
  select 't' || i, case when i % 5 > 0 then 'x' end, now() + i * interval '1 hour', i % 3 > 0, i % 2 > 0,
    case when i % 7 > 0 then i::text end
  from generate_series(1, 2500) i;
  insert into phone_numbers (tenant_id, phone_number_id, number_status)
  select tenant_id, phone_number_id, 'ok' from tenant_configs where phone_number_id is not null and id % 3 = 0;
  update token_watch set status = 'ok' where tenant_id like 't1%'`

const flags = `select count(*)::int as count from token_watch join tenant_configs using (tenant_id)
  where (tenant_is_active, tenant_is_onboarded) is distinct from (is_active, onboarding_completed)`

await t.test('the migration counts the rows that are there, and copies their flags', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await migrate(url, { folder: firstMigrations(t, FORMER) })
  await query(url, rows)
  await migrate(url)
  t.match(await (await countedDatabase(t, url)).assertExact('migrated'), { total: 2500 })
  t.same(await query(url, flags), [{ count: 0 }])
})

await t.test('writes of the former version before, during and after it are counted once', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await migrate(url, { folder: firstMigrations(t, FORMER) })
  await query(url, rows)
  const writer = await connect(t, url)
  await writer.query("begin; insert into tenant_configs (tenant_id, access_token) values ('before', 'x')")
  const migrating = migrate(url, { folder: firstMigrations(t, FORMER + 1) })
  await untilWaiting(url, 1)
  await writer.query('commit')
  await migrating
  await query(url, "update tenant_configs set is_active = false where tenant_id in ('t1', 't2', 'before')")
  await writer.query("begin; update tenant_configs set onboarding_completed = true where tenant_id in ('t4', 't6')")
  const counting = migrate(url)
  await untilWaiting(url, 1)
  await writer.query("insert into tenant_configs (tenant_id, access_token) values ('during', 'x'); commit")
  await counting
  await query(url, "delete from tenant_configs where tenant_id = 't9'")
  t.match(await (await countedDatabase(t, url)).assertExact('migrated'), { total: 2501 })
  t.same(await query(url, flags), [{ count: 0 }])
})

await t.test('a count that was killed is repeated', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await migrate(url, { folder: firstMigrations(t, FORMER) })
  await query(url, rows)
  await migrate(url, { folder: firstMigrations(t, FORMER + 1) })
  await query(url, 'select config_counts_recount(); select config_counts_fold(100)')
  await migrate(url)
  const { app, admin } = await buildTestApp(t, { DATABASE_URL: url })
  const { statusCode, body } = await app.inject({ url: '/api/v1/tenant/admin/configs/stats', headers: admin })
  t.match([statusCode, JSON.parse(body)], [200, { total: 2500, token_status: { ok: 889 } }])
  await (await countedDatabase(t, url)).assertExact('repeated')
})

await t.test('the statements of the former version still run, and what it writes is counted', async (t) => {
  const { run, assertExact } = await countedDatabase(t)
  await run(rows)
  await run("delete from token_watch where tenant_id like 't2%'")
  for (const statement of [
    // Its reconciliation, health, list and statistics.
    `insert into token_watch (tenant_id, next_check_at)
      select tenant_id, case when is_active then now() else '9999-12-31Z' end from tenant_configs
      where tenant_id like 't2%' and access_token is not null order by id for no key update on conflict do nothing`,
    `select case when is_active then next_check_at end as next_check_at, onboarding_completed, token_watch.status
      from tenant_configs left join token_watch using (tenant_id)`,
    `update token_watch set next_check_at = least(next_check_at, now()) from tenant_configs config
      where config.tenant_id = token_watch.tenant_id and is_active`,
    `select "id" from "token_watch" inner join "tenant_configs"
      on "tenant_configs"."tenant_id" collate "C" = "token_watch"."tenant_id" collate "C"
      where "token_watch"."status" = 'ok' and "is_active" = any('{t,f}'::boolean[]) limit 51`
  ]) {
    await run(statement)
    await assertExact(statement)
  }
  t.same(await run(flags), [{ count: 0 }])
})
