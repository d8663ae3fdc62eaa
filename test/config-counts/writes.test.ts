import t from '../run/tap.js'
import { connect } from '../helper.js'
import { countedDatabase } from './plain-counts.js'

/** Inserts tenants in every state that is counted. */
const tenants = (from: number, to: number) => `
  insert into tenant_configs (tenant_id, access_token, token_expires_at, is_active, onboarding_completed,
    phone_number_id)
  select 't' || i, case when i % 5 > 0 then 'x' end,
    case when i % 4 > 0 then now() + (i % 40 - 5) * interval '1 day' + i * interval '1 second' end,
    i % 3 > 0, i % 2 > 0, case when i % 7 > 0 then i::text end
  from generate_series(${from}, ${to}) i`

const numbers = `
  insert into phone_numbers (tenant_id, phone_number_id, number_status)
  select tenant_id, phone_number_id, case when id % 2 = 0 then 'ok' else 'unknown' end from tenant_configs
  where phone_number_id is not null and id % 3 > 0`

const changes = [
  tenants(1, 400),
  numbers,
  'update tenant_configs set is_active = not is_active where id % 5 = 0',
  'update tenant_configs set onboarding_completed = not onboarding_completed where id % 3 = 0',
  "update tenant_configs set access_token = 'y' where id % 5 < 2",
  'update tenant_configs set access_token = null where id % 9 = 0',
  "update tenant_configs set token_expires_at = token_expires_at + interval '3 days 5 minutes' where id % 2 = 0",
  'update tenant_configs set token_expires_at = null where id % 11 = 0',
  "update tenant_configs set token_expires_at = now() - interval '1 second' where id % 13 = 0",
  "update tenant_configs set phone_number_id = case when phone_number_id is null then 'n' || id end where id % 5 = 0",
  "update token_watch set status = 'ok' where tenant_id like 't1%'",
  "update token_watch set status = case status when 'ok' then 'revoked' else 'expiring' end",
  "update phone_numbers set number_status = 'restricted' where tenant_id like 't2%'",
  "insert into phone_numbers (tenant_id, phone_number_id) values ('t2', '2') " +
    "on conflict (tenant_id) do update set number_status = 'missing'",
  "delete from phone_numbers where tenant_id like 't3%'",
  "delete from token_watch where tenant_id like 't4%'",
  'delete from tenant_configs where id % 10 = 0',
  'with gone as (delete from tenant_configs where id % 2 = 1 returning *) select count(*) from gone',
  "insert into tenant_configs (tenant_id, access_token) values ('t2', 'x'), ('new', 'x') " +
    'on conflict (tenant_id) do update set is_active = not tenant_configs.is_active, access_token = null',
  "merge into tenant_configs config using (values ('new'), ('newer')) as source (id) on tenant_id = source.id " +
    'when matched then delete when not matched then insert (tenant_id) values (source.id)',
  'truncate phone_numbers',
  'truncate token_watch',
  'truncate tenant_configs',
  tenants(1, 50),
  numbers,
  'truncate tenant_configs, phone_numbers',
  tenants(1, 50),
  'delete from tenant_configs'
]

await t.test('the statistics are exact after each kind of write', async (t) => {
  const { run, assertExact, fold } = await countedDatabase(t)
  let before = await assertExact('an empty database')
  for (const [i, change] of changes.entries()) {
    await run(change)
    const stats = await assertExact(change)
    t.notSame(stats, before, `${change} changes the statistics`)
    if (i % 3 === 0) await fold()
    before = await assertExact(`${change}, folded`)
  }
})

await t.test('they are exact within a transaction, and after its rollback or that of a savepoint', async (t) => {
  const { run, assertExact } = await countedDatabase(t)
  await run(tenants(1001, 1040))
  const before = await assertExact('before')
  await run('begin')
  for (const change of changes) {
    await run(change)
    await assertExact(`in the transaction: ${change}`)
  }
  await run('rollback')
  t.strictSame(await assertExact('after the rollback'), before)
  await run('begin')
  await run(tenants(1, 20))
  await run('savepoint one')
  await run('truncate tenant_configs')
  await run(tenants(1, 5))
  t.match(await assertExact('after a savepoint'), { total: 5 })
  await run('rollback to savepoint one')
  await run('commit')
  t.match(await assertExact('after the commit'), { total: 60 })
})

await t.test('COPY, and single statements of one transaction, are counted', async (t) => {
  const { run, assertExact } = await countedDatabase(t)
  await run(`copy tenant_configs (tenant_id, access_token, token_expires_at)
    from program 'seq -f "copied %g,x,2030-01-01Z" 1000' with (format csv)`)
  t.match(await assertExact('COPY'), { total: 1000, token_status: { unverified: 1000 } })
  await run(`do $$ begin
    for i in 1..500 loop
      insert into tenant_configs (tenant_id, access_token) values ('single ' || i, 'x');
      update tenant_configs set is_active = false, token_expires_at = now() where tenant_id = 'single ' || i;
      if i % 2 = 0 then delete from tenant_configs where tenant_id = 'single ' || i; end if;
    end loop;
  end $$`)
  t.match(await assertExact('a script'), { total: 1250, inactive: 250, expired: 250 })
})

await t.test('a write that changes no count appends none; each statement appends one row a count', async (t) => {
  const { run, assertExact, fold } = await countedDatabase(t)
  await run(tenants(1, 200))
  await run("insert into tenant_configs (tenant_id, is_active) values ('on', true), ('off', false)")
  const pending = async () => await run('select source, name, count from config_count_changes order by 1, 2')
  await fold()
  for (const write of [
    "update tenant_configs set callback_url = 'https://a.example', fb_app_secret = 'v2.x'",
    "update tenant_configs set access_token = 'v2.other' where access_token is not null",
    'update tenant_configs set is_active = is_active, token_expires_at = token_expires_at',
    "update tenant_configs set tenant_id = 'renamed' where tenant_id = 't1'",
    "update tenant_configs set is_active = (tenant_id = 'off') where tenant_id in ('on', 'off')",
    'update tenant_configs set is_active = false where false',
    'delete from tenant_configs where false',
    "insert into tenant_configs (tenant_id) values ('on') on conflict do nothing",
    'update token_watch set next_check_at = now(), is_deadline = true'
  ]) {
    await run(write)
    t.same(await pending(), [], write)
  }
  await run('update tenant_configs set onboarding_completed = true')
  t.match(await pending(), [{ source: 'tenant_configs', name: 'onboarded', count: '102' }])
  await assertExact('at the end')
})

await t.test('dates that PostgreSQL knows and JSON does not are counted', async (t) => {
  const { run, assertExact } = await countedDatabase(t)
  const dates = ['infinity', '-infinity', '4713-11-24 00:00Z BC', '294276-12-31 23:59:59.999999Z', '1969-12-31Z']
  for (const date of dates) {
    await run(`insert into tenant_configs (tenant_id, access_token, token_expires_at)
      values ('${date}', 'x', '${date}')`)
    await assertExact(date)
  }
  await run('update tenant_configs set token_expires_at = null')
  t.match(await assertExact('without a date'), { expired: 0, no_expiry: 5 })
})

await t.test('a writer of tenant_configs needs no right on the counts', async (t) => {
  const { url, client, assertExact } = await countedDatabase(t)
  const role = `${new URL(url).pathname.slice(1)}_writer`
  await client.query(`create role ${role};
    grant select, insert, update, delete, truncate on tenant_configs to ${role};
    grant usage on sequence tenant_configs_id_seq to ${role};
    create policy writer on tenant_configs to ${role} using (true)`)
  t.teardown(async () => await client.query(`drop owned by ${role}; drop role ${role}`))
  await client.query(`set role ${role};
    insert into tenant_configs (tenant_id, access_token) values ('a', 'x'), ('b', 'x');
    update tenant_configs set is_active = false where tenant_id = 'a';
    delete from tenant_configs where tenant_id = 'b'`)
  for (const table of ['config_counts', 'config_count_changes']) {
    await t.rejects(client.query(`insert into ${table} values ('a', 'total', now(), 5)`), { code: '42501' })
  }
  await client.query('reset role')
  t.match(await assertExact('by the role'), { total: 1, inactive: 1 })
  await client.query(`set role ${role}; truncate tenant_configs; reset role`)
  t.match(await assertExact('after its TRUNCATE'), { total: 0 })
})

await t.test('TRUNCATE is refused where its transaction may not see all counts', async (t) => {
  const { url, run, assertExact } = await countedDatabase(t)
  await run(tenants(1, 10))
  for (const level of ['repeatable read', 'serializable']) {
    const client = await connect(t, url)
    await client.query(`begin isolation level ${level}; select 1`)
    await run(`insert into tenant_configs (tenant_id) values ('${level}')`)
    await t.rejects(client.query('truncate tenant_configs'), { code: '0A000', message: /read committed/ })
    await client.query('rollback')
  }
  await assertExact('afterwards')
})
