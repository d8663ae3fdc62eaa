import { drizzle } from 'drizzle-orm/node-postgres'
import t from '../../run/tap.js'
import { migrate, pendingMigrations, rollback } from '../../../src/database/migrations/migrations.js'
import { firstMigrations, tags } from '../../fixtures/migrations.js'
import { createDatabase, query } from '../../helper.js'
import { ANY, change, createChangeListener, insert, rows } from './change-listener.js'

const [, second, third] = tags

await t.test('triggers notify on a replica, under another search path and for another role', async (t) => {
  const { payloadsOf, writer, url } = await createChangeListener(t)
  await writer.query("set session_replication_role = 'replica'")
  t.same(await payloadsOf(`${insert} values ('a', '1', '10')`), [[change('a', '1', '10')]])
  t.same(
    await payloadsOf('update tenant_configs set waba_id = null'),
    [[change('a', '1', '10'), change('a', '1', null)]]
  )
  t.same(await payloadsOf('delete from tenant_configs'), [[change('a', '1', null)]])
  t.same(await payloadsOf('truncate tenant_configs'), [ANY])
  await writer.query("set session_replication_role = 'origin'")

  await writer.query(
    'create temporary table changed (tenant_id text, phone_number_id text, waba_id text); insert into changed values ' +
      "('wrong', 'wrong', 'wrong')"
  )
  await writer.query(
    "create schema evil; create function evil.pg_notify(text, text) returns void language sql as 'select'; create " +
      "function evil.octet_length(text) returns int language sql as 'select 9999'"
  )
  await writer.query('set search_path = evil, pg_temp, public')
  t.same(
    await payloadsOf('insert into public.tenant_configs (tenant_id) values ($1)', ['b']),
    [[change('b', null, null)]]
  )
  await writer.query('reset search_path')

  const role = `${new URL(url).pathname.slice(1)}_writer`
  await writer.query(`
    create role ${role};
    grant select, update on tenant_configs to ${role};
    create policy writer on tenant_configs to ${role} using (true);
    set role ${role}`)
  t.teardown(async () => await query(url, `drop owned by ${role}; drop role ${role}`))
  t.same(
    await payloadsOf("update tenant_configs set waba_id = '7'"),
    [[change('b', null, '7'), change('b', null, null)]]
  )
})

await t.test('the triggers can be added to and removed from a filled database repeatedly', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const options = { folder: firstMigrations(t, 3) }
  const yes = async () => true
  await migrate(url, options)
  t.equal(await rollback(url, yes, options), third)
  const { payloadsOf, writer } = await createChangeListener(t, url)
  t.same(await pendingMigrations(drizzle(writer), options.folder), [third])
  await writer.query(`${insert} ${rows(1, 5000)}`)
  const content = async () => await query(
    url,
    'select md5(string_agg(tenant_configs::text, chr(10) order by id)) as content, count(*)::int as count from ' +
      'tenant_configs'
  )
  const before = await content()
  t.match(before, [{ count: 5000 }])
  const touch = "update tenant_configs set user_id = null where tenant_id = 't1'"
  for (const times of [1, 2]) {
    t.same(await payloadsOf(touch), [], 'without triggers nothing is notified')
    t.same(await migrate(url, options), [third], `${times}`)
    t.same(await payloadsOf(touch), [[change('t1', 'p1', 'w1')]])
    t.equal(await rollback(url, yes, options), third)
  }
  await writer.query('alter table tenant_configs disable trigger user')
  t.match(await content(), [{ count: 5000 }])
  t.equal(await rollback(url, yes, options), second, 'the previous migration can be undone too')
})
