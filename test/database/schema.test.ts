import { readdirSync } from 'node:fs'
import { is, sql } from 'drizzle-orm'
import { getTableConfig, PgTable } from 'drizzle-orm/pg-core'
import t from '../run/tap.js'
import { isoFromMs, isoFromPostgres } from '../../src/schemas/timestamps.js'
import { buildTestApp, createDatabase, query } from '../helper.js'

await t.test('tenant_configs has exactly its 19 columns', async (t) => {
  const url = await createDatabase(t)
  const columns = await query(url, `
    select attname as name, concat_ws(' ', format_type(atttypid, atttypmod),
      case when attnotnull then 'not null' end, pg_get_expr(adbin, adrelid)) as definition
    from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attrelid = 'tenant_configs'::regclass and attnum > 0 and not attisdropped order by attnum`)
  const time = 'timestamp with time zone'
  t.same(columns.map(({ name, definition }) => [name, definition]), [
    ['id', "integer not null nextval('tenant_configs_id_seq'::regclass)"],
    ['tenant_id', 'character varying(100) not null'],
    ['user_id', 'character varying(255)'],
    ['waba_id', 'character varying(255)'],
    ['phone_number_id', 'character varying(255)'],
    ['access_token', 'text'],
    ['fb_app_id', 'character varying(255)'],
    ['fb_app_secret', 'text'],
    ['callback_url', 'character varying(500)'],
    ['redirect_url', 'character varying(500)'],
    ['verify_token', 'text'],
    ['token_expires_at', time],
    ['refresh_token', 'text'],
    ['is_active', 'boolean not null true'],
    ['onboarding_completed', 'boolean not null false'],
    ['onboarded_at', time],
    ['last_verified_at', time],
    ['created_at', `${time} not null now()`],
    ['updated_at', `${time} not null now()`]
  ])
  const insert = async (tenant: string, phone: string | null) => await query(
    url,
    'insert into tenant_configs (tenant_id, phone_number_id) values ($1, $2)',
    [tenant, phone]
  )
  await insert('a', null)
  await insert('b', null)
  await insert('c', '1')
  await insert('d', '1')
  await t.rejects(insert('a', '2'), { code: '23505', constraint: 'tenant_configs_tenant_id_key' })
  const verify = async (tenant: string, phone: string | null) =>
    await query(
      url,
      "insert into verified_identities (tenant_id, waba_id, phone_number_id) values ($1, 'w', $2)",
      [tenant, phone]
    )
  for (const [tenant, phone] of [['a', null], ['b', null], ['c', '1']] as const) await verify(tenant, phone)
  await t.rejects(verify('d', '1'), { code: '23505', constraint: 'verified_identities_phone_number_id_key' })
})

await t.test('the indexes are those that the schema describes', async (t) => {
  const url = await createDatabase(t)
  const found = await query(
    url,
    "select indexname as name, indexdef like 'CREATE UNIQUE%' as unique from pg_indexes where schemaname = 'public' " +
      'and indexname not in (select conname from pg_constraint) order by 1'
  )
  const folder = 'src/database/schema'
  const files = readdirSync(folder).map((file) => `../../${folder}/${file.replace(/\.ts$/, '.js')}`)
  const modules: object[] = await Promise.all(files.map(async (file) => await import(file)))
  const described = modules.flatMap((schema) => Object.values(schema)).flatMap(
    (value) => is(value, PgTable) ? getTableConfig(value).indexes : []
  ).map(({ config }) => ({ name: config.name, unique: config.unique }))
  t.strictSame(
    described.sort((a, b) => String(a.name).localeCompare(String(b.name))),
    found.map(({ name, unique }) => ({ name, unique }))
  )
})

await t.test('updated_at changes with every update, also with one of another program', async (t) => {
  const url = await createDatabase(t)
  await query(
    url,
    "insert into tenant_configs (tenant_id, created_at, updated_at) values ('acme', '2020-01-01Z', '2020-01-01Z')"
  )
  const [row] = await query(
    url,
    "update tenant_configs set waba_id = '1', updated_at = '2001-01-01Z' returning created_at = '2020-01-01Z' as " +
      'kept, updated_at = now() as touched'
  )
  t.same(row, { kept: true, touched: true })
})

await t.test('times are ISO 8601 in UTC with microseconds, in every zone', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  await query(
    DATABASE_URL,
    "insert into tenant_configs (tenant_id, onboarded_at, token_expires_at) values ('acme', '2026-11-23Z', " +
      "'2027-01-22 14:00:00.123456+02')"
  )
  const session = sql`select current_setting('timezone') as zone, current_setting('work_mem') as memory`
  for (const zone of ['UTC', 'Asia/Kolkata', 'America/St_Johns', 'Pacific/Auckland']) {
    const options = `-c timezone=${zone} -c work_mem=1234kB`
    const url = new URL(DATABASE_URL)
    url.searchParams.set('options', options)
    const { app } = await buildTestApp(t, { DATABASE_URL: url.href })
    t.match(
      await app.tenantConfigs.find('acme'),
      { onboarded_at: '2026-11-23T00:00:00.000000Z', token_expires_at: '2027-01-22T12:00:00.123456Z' },
      options
    )
    const expected = [{ zone, memory: '1234kB' }]
    t.match(await app.database.run(session), expected, `the pool, ${options}`)
    t.match(
      await app.database.withoutTimeout(async (orm) => (await orm.execute(session)).rows),
      expected,
      `a connection of its own, ${options}`
    )
  }
  const { app } = await buildTestApp(t, { DATABASE_URL })
  t.match(await app.tenantConfigs.find('acme'), { token_expires_at: '2027-01-22T12:00:00.123456Z' }, 'without options')
})

await t.test('isoFromPostgres returns UTC with six digits, and throws for other styles', async (t) => {
  for (const [written, expected] of [
    ['2026-11-23 05:55:00+00', '2026-11-23T05:55:00.000000Z'],
    ['2026-11-23 05:55:00.1+00', '2026-11-23T05:55:00.100000Z'],
    ['2026-11-23 05:55:00.123456+00', '2026-11-23T05:55:00.123456Z'],
    ['2026-11-23 05:25:00.12345+05:30', '2026-11-22T23:55:00.123450Z'],
    ['2026-12-31 23:59:59.999999-08', '2027-01-01T07:59:59.999999Z'],
    ['2026-11-23 05:55:00+00:00', '2026-11-23T05:55:00.000000Z'],
    ['0001-01-01 05:53:28+05:53:28', '0001-01-01T00:00:00.000000Z'],
    ['9999-12-31 23:59:59.999999+00', '9999-12-31T23:59:59.999999Z']
  ] as const) t.equal(isoFromPostgres(written), expected, written)
  for (const written of [
    '23/11/2026 05:55:00 UTC', '11/23/2026 05:55:00.123 UTC', '23.11.2026 05:55:00 UTC', 'Mon Nov 23 05:55:00 2026 UTC',
    '2026-11-23 05:55:00', '2026-11-23T05:55:00+00',
    '2026-11-23 05:55:00 IST', '2026-11-23 05:55:00.1234567+00', 'infinity', '-infinity', '0044-03-15 00:00:00+00 BC',
    '10000-01-01 00:00:00+00', '9999-12-31 23:59:59-08', ''
  ]) {
    t.throws(
      () => isoFromPostgres(written),
      { message: `PostgreSQL sent a time that is not in ISO style: ${written}` }
    )
  }
  t.equal(isoFromMs(Date.UTC(2026, 10, 23, 5, 55, 0, 123)), '2026-11-23T05:55:00.123000Z')
})

await t.test('deactivation or deletion ends the unfinished onboardings of that tenant only', async (t) => {
  for (const [write, statuses] of [
    [
      "update tenant_configs set is_active = false where tenant_id = 'acme'",
      ['failed', 'failed', 'completed', 'failed', 'in_progress']
    ],
    ["delete from tenant_configs where tenant_id = 'acme'", ['failed', 'failed', 'completed', 'failed', 'in_progress']],
    ['truncate tenant_configs', ['failed', 'failed', 'completed', 'failed', 'failed']]
  ] as const) {
    const url = await createDatabase(t)
    await query(url, "insert into tenant_configs (tenant_id, access_token) values ('acme', 'x'), ('other', 'y')")
    await query(url, `insert into onboardings (tenant_id, code_hash, status, steps, access_token, holder) values
      ('acme', '1', 'in_progress', '[]', 'waits', null),
      ('acme', '2', 'in_progress', '[]', 'held', gen_random_uuid()),
      ('acme', '3', 'completed', '[]', null, null),
      ('acme', '4', 'failed', '[]', null, gen_random_uuid()),
      ('other', '5', 'in_progress', '[]', 'waits', null)`)
    await query(url, write)
    const found = await query(url, 'select status, access_token, holder from onboardings order by code_hash')
    t.same(found.map(({ status }) => status), statuses, write)
    t.same(
      found.filter(({ status, access_token: token, holder }) => status === 'failed' && (token ?? holder) !== null),
      [],
      'a failed onboarding has no lease owner'
    )
    t.equal(found.at(-1)?.['access_token'], statuses[4] === 'failed' ? null : 'waits')
  }
})

await t.test('the token of a reactivated configuration is due at once', async (t) => {
  const url = await createDatabase(t, { watched: true })
  await query(url, "insert into tenant_configs (tenant_id, access_token) values ('acme', 'x')")
  await query(url, "update token_watch set next_check_at = 'infinity'")
  const isDue = async (change: string) => {
    await query(url, `update tenant_configs set ${change}`)
    return (await query(url, 'select next_check_at <= now() as due from token_watch'))[0]?.['due']
  }
  t.equal(await isDue('is_active = is_active'), false)
  t.equal(await isDue('is_active = false'), false)
  t.equal(await isDue('is_active = true'), true)
})
