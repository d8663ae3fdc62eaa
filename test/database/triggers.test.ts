import t from '../run/tap.js'
import { migrate } from '../../src/database/migrations/migrations.js'
import { connect, createDatabase, query } from '../helper.js'

const tables = "('tenant_configs', 'onboardings', 'token_watch', 'verified_identities', 'phone_numbers', " +
  "'config_counts', 'config_count_changes', 'audit_log', 'audit_checkpoints')"
const watches = async (url: string, schema = 'public') =>
  (await query(url, `select tenant_id from ${schema}.token_watch order by 1`)).map(({ tenant_id: id }) => id)

await t.test('triggers fire always, and each function has a search_path that ends in pg_temp', async (t) => {
  const url = await createDatabase(t, { watched: true })
  const triggers = await query(url, `
    select tgname, tgenabled::text as state, proname, proconfig
    from pg_trigger join pg_proc on pg_proc.oid = tgfoid
    where tgrelid in (select oid from pg_class where relname in ${tables}) and not tgisinternal`)
  t.ok(triggers.length > 30)
  t.same(triggers.filter(({ state }) => state !== 'A'), [])
  const safe = /^search_path=(public|pg_catalog), pg_temp(,enable_seqscan=off)?$/
  t.same(triggers.filter(({ proconfig }) => !safe.test(String(proconfig))), [])
  const functions = await query(
    url,
    "select proname from pg_proc where pronamespace = 'public'::regnamespace and proname <> 'audit_cut'"
  )
  t.same(
    functions.map(({ proname }) => String(proname))
      .filter((name) => !triggers.some((trigger) => trigger['proname'] === name)).sort(),
    ['config_counts_fold', 'config_counts_recount', 'sealing_keys', 'tenant_config_counts'],
    'each other function belongs to a trigger'
  )
})

await t.test('writes with an empty search_path or as a replica fire the triggers', async (t) => {
  const url = await createDatabase(t)
  const writer = await connect(t, url)
  await writer.query("set search_path = ''")
  await writer.query(
    "insert into public.tenant_configs (tenant_id, access_token, waba_id, last_verified_at) values ('plain', 'x', " +
      "'1', now())"
  )
  await writer.query('set session_replication_role = replica')
  await writer.query(
    "insert into public.tenant_configs (tenant_id, access_token, updated_at) values ('replica', 'x', '2020-01-01Z'), " +
      "('gone', 'x', now())"
  )
  await writer.query("delete from public.tenant_configs where tenant_id = 'gone'")
  t.same(await watches(url), ['plain', 'replica'])
  t.same(await query(url, 'select tenant_id, waba_id from verified_identities'), [{ tenant_id: 'plain', waba_id: '1' }])
  await writer.query(
    "insert into public.onboardings (tenant_id, code_hash, steps, updated_at) values ('replica', '1', '[]', " +
      "'2020-01-01Z')"
  )
  await writer.query(
    "update public.tenant_configs set access_token = null, is_active = false where tenant_id = 'replica'"
  )
  t.same(await watches(url), ['plain'])
  t.same(
    await query(url, "select status, updated_at > '2021-01-01Z' as touched from onboardings"),
    [{ status: 'failed', touched: true }]
  )
  t.same(
    await query(url, "select updated_at > '2021-01-01Z' as touched from tenant_configs where tenant_id = 'replica'"),
    [{ touched: true }]
  )
  await writer.query('truncate public.tenant_configs')
  t.same(await watches(url), [])
})

await t.test('tables of the same name in pg_temp or another schema are not written', async (t) => {
  const url = await createDatabase(t)
  const writer = await connect(t, url)
  await writer.query(
    'create schema hostile; create table hostile.token_watch (like token_watch); create table hostile.onboardings ' +
      '(like onboardings)'
  )
  await writer.query(
    'create temp table token_watch (like public.token_watch); create temp table verified_identities (like ' +
      'public.verified_identities)'
  )
  await writer.query(
    "create function hostile.now() returns timestamptz language sql as $$ select 'epoch'::timestamptz $$; set " +
      'search_path = hostile, public, pg_catalog'
  )
  await writer.query(
    "insert into tenant_configs (tenant_id, access_token, waba_id, last_verified_at) values ('acme', 'x', '1', now())"
  )
  await writer.query("update tenant_configs set access_token = 'y'")
  t.same(
    (await writer.query('select updated_at > $1 as touched from tenant_configs', ['2021-01-01Z'])).rows,
    [{ touched: true }]
  )
  t.same(await watches(url), ['acme'])
  t.same(await query(url, 'select tenant_id from verified_identities'), [{ tenant_id: 'acme' }])
  t.same(
    (await writer.query(
      'select from pg_temp.token_watch union all select from pg_temp.verified_identities union all select from ' +
        'hostile.token_watch'
    )).rows,
    []
  )
})

await t.test('triggers write to the schema that the search_path of the database puts first', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await query(url, 'create schema "Our tables"')
  await query(url, `alter database ${new URL(url).pathname.slice(1)} set search_path = "Our tables", public`)
  await migrate(url)
  await query(url, 'create table public.token_watch (like "Our tables".token_watch)')
  await query(
    url,
    "set search_path = public; insert into \"Our tables\".tenant_configs (tenant_id, access_token) values ('acme', 'x')"
  )
  t.same(await watches(url, '"Our tables"'), ['acme'])
  t.same(await watches(url), [])
  t.same(
    await query(
      url,
      "select distinct proconfig from pg_proc where pronamespace = '\"Our tables\"'::regnamespace and proname = " +
        "'token_watch_insert'"
    ),
    [{ proconfig: ['search_path="Our tables", pg_temp'] }]
  )
})

await t.test('a role limited to tenant_configs can write, but not reuse the trigger functions', async (t) => {
  const url = await createDatabase(t)
  const writer = await connect(t, url)
  const role = `${new URL(url).pathname.slice(1)}_writer`
  await writer.query(`
    create role ${role};
    grant select, insert, update, delete on tenant_configs to ${role};
    grant usage on sequence tenant_configs_id_seq to ${role};
    create policy writer on tenant_configs to ${role} using (true)`)
  t.teardown(async () => await query(url, `drop owned by ${role}; drop role ${role}`))
  await writer.query(`grant create on schema public to ${role}; set role ${role}`)
  await writer.query(
    "insert into tenant_configs (tenant_id, access_token, waba_id, last_verified_at) values ('acme', 'x', '1', " +
      "now()), ('other', 'x', '2', now())"
  )
  await writer.query(
    "update tenant_configs set waba_id = '3', access_token = 'y', is_active = false where tenant_id = 'acme'"
  )
  await writer.query("delete from tenant_configs where tenant_id = 'other'")
  t.same(await watches(url), ['acme'])
  t.same(
    (await query(url, 'select tenant_id, waba_id from verified_identities')),
    [{ tenant_id: 'acme', waba_id: '3' }]
  )

  const { rows: functions } = await writer.query(
    "select proname as name from pg_proc where prosecdef and pronamespace = 'public'::regnamespace"
  )
  t.equal(functions.length, 16)
  await writer.query('create table mine (tenant_id varchar(100))')
  for (const { name } of functions) {
    await t.rejects(
      writer.query(`create trigger mine after truncate on mine for each statement execute function ${name}()`),
      // The function that cuts the audit log is none of a trigger.
      { code: name === 'audit_cut' ? '42883' : '42501' }
    )
  }
})
