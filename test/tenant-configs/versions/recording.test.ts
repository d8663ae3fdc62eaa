import type { Test } from 'tap'
import t from '../../run/tap.js'
import { connect, createDatabase, queries, until, untilWaiting } from '../../helper.js'

const insert = `insert into tenant_configs (tenant_id, waba_id, access_token, verify_token, created_at)
  values ('acme', '1', 'sealed-1', 'sealed-2', '2026-01-02Z')`

/** A database with the row of one tenant. */
async function database (t: Test) {
  const url = await createDatabase(t)
  const sql = queries(t, url)
  await sql(insert)
  return {
    url,
    sql,
    versions: async (columns = 'version, changed') =>
      await sql(`select ${columns} from tenant_config_versions order by tenant_id, version`)
  }
}

await t.test('a change of any column keeps the former row, and names the column', async (t) => {
  const { sql, versions } = await database(t)
  const columns = await sql(`select attname as name, format_type(atttypid, null) as type from pg_attribute
    where attrelid = 'tenant_configs'::regclass and attnum > 0 and not attisdropped order by attnum`)
  const silent = ['id', 'tenant_id', 'updated_at', 'last_verified_at']
  const loud = columns.filter(({ name }) => !silent.includes(String(name)))
  t.equal(loud.length, 15)
  for (const { name, type } of loud) {
    const kept = columns.map(({ name }) => name).filter((name) => !['id', 'updated_at'].includes(String(name))).join()
    const [former] = await sql(`select ${kept} from tenant_configs`)
    const value = type === 'boolean' ? `not ${name}` : type === 'timestamp with time zone' ? "'2031-01-01Z'" : "'9'"
    await sql(`update tenant_configs set ${name} = ${value}`)
    t.same(await sql(`select ${kept}, changed from tenant_config_versions order by version desc limit 1`),
      [{ ...former, changed: [name] }])
    const [last] = await versions('last_verified_at')
    t.same(last, { last_verified_at: null })
  }
  t.same((await versions()).map(({ version }) => version), loud.map((_, i) => i + 1))
})

await t.test('a check of the token, an equal value and a rotation make no version', async (t) => {
  const { url, sql, versions } = await database(t)
  await sql("update tenant_configs set last_verified_at = now(), updated_at = '2020-01-01Z', id = 99")
  await sql("update tenant_configs set waba_id = '1', access_token = 'sealed-1', user_id = null")
  const rotation = await connect(t, url)
  await rotation.query("begin; select set_config('app.resealing', 'on', true)")
  await rotation.query("update tenant_configs set access_token = 'resealed'; commit")
  t.same(await versions(), [])
  await rotation.query("update tenant_configs set access_token = 'sealed-3'")
  t.same(await versions('access_token'), [{ access_token: 'resealed' }], 'the setting ends with the transaction')
})

await t.test('one version names all columns that a statement changes, and is of the state before', async (t) => {
  const { sql, versions } = await database(t)
  await sql("update tenant_configs set last_verified_at = '2026-02-03Z', waba_id = '2', verify_token = null")
  t.same(
    await versions('version, changed, waba_id, verify_token, last_verified_at'),
    [{
      version: 1, changed: ['waba_id', 'verify_token'], waba_id: '1', verify_token: 'sealed-2', last_verified_at: null
    }]
  )
})

await t.test('the actor, and the batch of a deletion, are settings of the transaction; psql has none', async (t) => {
  const { url, sql, versions } = await database(t)
  const service = await connect(t, url)
  const batch = '6f1f6ad8-5f0c-4b0e-8f43-0d6b0f1a2b3c'
  await service.query('begin')
  await service.query(`select set_config('app.tenant_id', 'acme', true), set_config('app.actor', $1, true),
    set_config('app.batch_id', $2, true)`, ['é'.repeat(300), batch])
  await service.query("update tenant_configs set waba_id = '2'")
  await service.query('delete from tenant_configs; commit')
  await service.query(insert)
  await service.query("update tenant_configs set waba_id = '3'")
  await sql('delete from tenant_configs')
  const by = { actor: 'é'.repeat(255) }
  const nobody = { actor: null, batch_id: null }
  t.same(await versions('version, changed, actor, batch_id'), [
    { version: 1, changed: ['waba_id'], ...by, batch_id: null },
    { version: 2, changed: ['deleted'], ...by, batch_id: batch },
    { version: 3, changed: ['waba_id'], ...nobody },
    { version: 4, changed: ['deleted'], ...nobody }
  ])
})

await t.test('the actor of one tenant is not named in the versions of another one', async (t) => {
  const { url, sql, versions } = await database(t)
  await sql("insert into tenant_configs (tenant_id) values ('other')")
  const service = await connect(t, url)
  for (const tenant of ['other', '']) {
    await service.query('begin')
    await service.query("select set_config('app.tenant_id', $1, true), set_config('app.actor', 'ann', true)", [tenant])
    await service.query(`update tenant_configs set fb_app_id = 'of ${tenant}'; delete from tenant_configs`)
    t.same(
      (await service.query('select tenant_id, actor from tenant_config_versions order by 1, version')).rows,
      ['acme', 'acme', 'other', 'other'].map((id) => ({ tenant_id: id, actor: id === tenant ? 'ann' : null }))
    )
    await service.query('rollback')
  }
  t.same(await versions(), [])
})

await t.test('DELETE, TRUNCATE and a changed tenant id keep the last state, and end the tenant', async (t) => {
  for (const [write, tenants] of [
    ['delete from tenant_configs', ['acme', 'other']],
    ['truncate tenant_configs', ['acme', 'other']],
    ["update tenant_configs set tenant_id = 'renamed', waba_id = '9' where tenant_id = 'acme'", ['acme']]
  ] as const) {
    const { sql, versions } = await database(t)
    await sql("insert into tenant_configs (tenant_id, waba_id, is_active) values ('other', '2', false)")
    await sql(write)
    const ends = [
      { tenant_id: 'acme', version: 1, changed: ['deleted'], waba_id: '1', is_active: true },
      { tenant_id: 'other', version: 1, changed: ['deleted'], waba_id: '2', is_active: false }
    ]
    t.same(
      await versions('tenant_id, version, changed, waba_id, is_active'),
      ends.filter(({ tenant_id: id }) => tenants.some((tenant) => tenant === id)),
      write
    )
    await sql("delete from tenant_configs where tenant_id = 'nobody'")
    t.equal((await versions()).length, tenants.length)
  }
})

await t.test('the numbers go on after a deletion, and each tenant has its own', async (t) => {
  const { sql, versions } = await database(t)
  await sql("update tenant_configs set waba_id = '2'")
  await sql('delete from tenant_configs')
  await sql("insert into tenant_configs (tenant_id) values ('acme'), ('other')")
  await sql("update tenant_configs set waba_id = '3'")
  t.same((await versions('tenant_id, version')).map((row) => Object.values(row).join(' ')), [
    'acme 1', 'acme 2', 'acme 3', 'other 1'
  ])
})

await t.test('a tenant keeps max_per_tenant versions; a smaller maximum counts from the next change', async (t) => {
  const { sql, versions } = await database(t)
  await sql("insert into tenant_configs (tenant_id) values ('other')")
  await sql("update tenant_configs set waba_id = 'x'")
  const change = async (times: number) => {
    for (let i = 0; i < times; i++) await sql(`update tenant_configs set waba_id = '${i}' where tenant_id = 'acme'`)
  }
  const kept = async () => (await versions('version, tenant_id')).filter(({ tenant_id: id }) => id === 'acme')
    .map(({ version }) => version)
  await change(60)
  t.same(await kept(), Array.from({ length: 50 }, (_, i) => i + 12))
  await sql('update version_policy set max_per_tenant = 3')
  t.equal((await kept()).length, 50)
  await change(1)
  t.same(await kept(), [60, 61, 62])
  await sql('update version_policy set max_per_tenant = 1')
  await sql('delete from tenant_configs')
  t.same(await kept(), [63])
  t.same((await versions('tenant_id')).map(({ tenant_id: id }) => id), ['acme', 'other'])
})

await t.test('with retention_days = 0 no write makes a version', async (t) => {
  const { sql, versions } = await database(t)
  await sql('update version_policy set retention_days = 0')
  await sql("update tenant_configs set waba_id = '2'")
  await sql('delete from tenant_configs')
  await sql(insert)
  await sql('truncate tenant_configs')
  t.same(await versions(), [])
})

await t.test('of two writers of one tenant each makes its version', async (t) => {
  for (const write of ["update tenant_configs set callback_url = 'second'", 'delete from tenant_configs']) {
    const { url, sql, versions } = await database(t)
    const first = await connect(t, url)
    await first.query("begin; update tenant_configs set waba_id = 'first'")
    const second = sql(write)
    await untilWaiting(url, 1)
    await first.query('commit')
    await second
    t.same(await versions('version, waba_id'), [{ version: 1, waba_id: '1' }, { version: 2, waba_id: 'first' }])
  }
  const { sql, versions } = await database(t)
  await Promise.all(Array.from({ length: 40 }, async (_, i) =>
    await sql(`update tenant_configs set callback_url = '${i}'`)))
  t.same((await versions('version')).map(({ version }) => version), Array.from({ length: 40 }, (_, i) => i + 1))
  t.equal(new Set((await versions('callback_url')).map(({ callback_url: url }) => url)).size, 40)
})

await t.test('a rolled back change leaves no version', async (t) => {
  const { url, versions } = await database(t)
  const writer = await connect(t, url)
  await writer.query("begin; update tenant_configs set waba_id = '2'; rollback")
  t.same(await versions(), [])
})

await t.test('a replica, a hostile search_path and a role without rights make versions too', async (t) => {
  const { url, sql, versions } = await database(t)
  const writer = await connect(t, url)
  await writer.query(`create schema hostile;
    create table hostile.tenant_config_versions (like tenant_config_versions);
    create table hostile.version_policy as select true as is_present, 0 as retention_days, 1 as max_per_tenant;
    create temp table version_policy as select true as is_present, 0 as retention_days, 1 as max_per_tenant;
    create temp table gone as select * from tenant_configs where false;
    set search_path = hostile, pg_temp, public; set session_replication_role = replica`)
  await writer.query("update public.tenant_configs set waba_id = '2'")
  const role = `${new URL(url).pathname.slice(1)}_writer`
  await writer.query(`reset session_replication_role; create role ${role};
    grant select, update, delete, truncate on public.tenant_configs to ${role};
    create policy writer on public.tenant_configs to ${role} using (true);
    set role ${role}`)
  t.teardown(async () => await sql(`drop owned by ${role}; drop role ${role}`))
  await writer.query("update public.tenant_configs set waba_id = '3'")
  await writer.query('delete from public.tenant_configs')
  await sql(insert)
  await writer.query('truncate public.tenant_configs')
  t.same((await versions('waba_id')).map(({ waba_id: id }) => id), ['1', '2', '3', '1'])
  await t.rejects(writer.query('select from public.tenant_config_versions'), { code: '42501' })
})

await t.test('a statement on many rows uses the primary key, also with a plan for a small table', async (t) => {
  const { url, sql } = await database(t)
  await sql("update tenant_configs set waba_id = 'x'")
  await sql('vacuum analyze tenant_config_versions')
  const writer = await connect(t, url)
  for (let i = 0; i < 10; i++) await writer.query(`update tenant_configs set waba_id = 'x${i}'`)
  await writer.query("insert into tenant_configs (tenant_id) select 'many-' || i from generate_series(1, 20000) i")
  await writer.query("update tenant_configs set waba_id = 'all'")
  await writer.query('delete from tenant_configs')
  // The end of the connection publishes its counters.
  await writer.end()
  const counters = "select * from pg_stat_user_tables where relname = 'tenant_config_versions'"
  await until(async () => Number((await sql(counters))[0]?.['idx_scan']) >= 40_000)
  t.match(await sql(counters), [{ seq_scan: '0' }])
  t.match(await sql('select count(*)::int from tenant_config_versions'), [{ count: 40_013 }])
})
