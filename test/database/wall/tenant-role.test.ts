import { randomBytes } from 'node:crypto'
import { sql } from 'drizzle-orm'
import type pg from 'pg'
import t from '../../run/tap.js'
import { tableWalls } from '../../../src/database/wall/grants.js'
import { buildTestApp, connect, createDatabase, query } from '../../helper.js'

const url = await createDatabase(t)
const tables = Object.entries(tableWalls).filter(([, { isOfTenant }]) => isOfTenant).map(([table]) => table)
interface Row { role: string, tenant: string, actor: string, rows: number }

const WHO = `select current_user as role, current_setting('app.tenant_id') as tenant,
  current_setting('app.actor') as actor, (select count(*)::int from tenant_configs) as rows`
const DENIED = { code: '42501' }

/** A row of each table that the role of tenants may read, for a tenant. */
const rowsOf = (tenant: string) => `
  insert into tenant_configs (tenant_id, access_token, waba_id, phone_number_id, last_verified_at)
  values ('${tenant}', 'sealed-of-${tenant}', 'waba of ${tenant}', 'phone of ${tenant}', now());
  update tenant_configs set verify_token = 'x' where tenant_id = '${tenant}';
  insert into phone_numbers (tenant_id, phone_number_id) values ('${tenant}', 'phone of ${tenant}')
    on conflict do nothing;
  insert into account_states (tenant_id) values ('${tenant}') on conflict do nothing;
  insert into idempotency_keys (tenant_id, key_hash, fingerprint, lease_owner, leased_until, expires_at)
  values ('${tenant}', 'x', 'x', gen_random_uuid(), now(), now());
  insert into audit_log (tenant_id, seq, at, role, action, outcome, fields, count, hmac)
  values ('${tenant}', 1, now(), 'tenant', 'config.update', 'ok', '{}', 1, 'x');
  insert into onboardings (tenant_id, code_hash, steps) values ('${tenant}', 'code of ${tenant}', '[]')`

/** A login with the role of tenants and nothing else. */
async function tenantLogin () {
  const name = `wtc_test_${randomBytes(8).toString('hex')}`
  await query(url, `create role ${name} login password 'probe' in role tenant_config_tenant`)
  t.teardown(async () => await query(url, `drop role ${name}`))
  return await connect(t, Object.assign(new URL(url), { username: name, password: 'probe' }).href)
}

const as = async (client: pg.Client, tenant: string) => {
  await client.query("select set_config('app.tenant_id', $1, false)", [tenant])
}

/** The tables with rows that the client sees, with the number of rows, and whether all of them are the tenant's. */
async function seen (client: pg.Client, tenant: string): Promise<Record<string, boolean>> {
  const found: Record<string, boolean> = {}
  for (const table of readable) {
    const { rows: [row] } = await client.query<{ count: string, own: boolean }>(
      `select count(*), coalesce(bool_and(tenant_id = $1), true) as own from ${table}`, [tenant]
    )
    if (Number(row?.count) > 0) found[table] = row?.own === true
  }
  return found
}

const readable = tables.filter((table) => tableWalls[table]?.grants.tenant.includes('SELECT'))
const allOwn = Object.fromEntries(readable.map((table) => [table, true]))
await query(url, rowsOf('a'))
await query(url, rowsOf('b'))

await t.test('the wall knows each table of the schema, and which have rows of tenants', async (t) => {
  const found = await query(url, `
    select relname as table, exists (
      select from pg_attribute where attrelid = pg_class.oid and attname = 'tenant_id' and attnum > 0) as "hasTenant"
    from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by relname collate "C"`)
  t.strictSame(found.map(({ table }) => table), Object.keys(tableWalls).sort())
  // Events and phone callbacks name a tenant; only background work and admins read those.
  for (const { table, hasTenant } of found) {
    const wall = tableWalls[String(table)]
    t.ok(wall?.isOfTenant === hasTenant || wall?.grants.tenant.length === 0, String(table))
  }
})

await t.test('the role of tenants sees the rows of app.tenant_id, and none without it', async (t) => {
  const client = await tenantLogin()
  t.strictSame(await seen(client, 'a'), {}, 'before it is set')
  await as(client, '')
  t.strictSame(await seen(client, 'a'), {})
  await as(client, 'a')
  t.strictSame(await seen(client, 'a'), allOwn)
  await as(client, 'b')
  t.strictSame(await seen(client, 'b'), allOwn)
  await as(client, "a' or true --")
  t.strictSame(await seen(client, 'a'), {})
  for (const table of tables.filter((table) => !readable.includes(table))) {
    await t.rejects(client.query(`select from ${table}`), DENIED, table)
  }
})

/** The same row, with another tenant. */
const movedTo = (table: string, tenant: string) =>
  `select (jsonb_populate_record(row, '{"tenant_id": "${tenant}"}')).* from ${table} row where tenant_id = 'a' limit 1`

await t.test('the role of tenants changes no row of another tenant', async (t) => {
  const client = await tenantLogin()
  await as(client, 'a')
  const others = async (table: string) =>
    await query(url, `select xmin::text, row::text from ${table} row where tenant_id <> 'a' order by 2`)
  /** The tenants whose rows a statement changes, which is undone. */
  const changed = async (statement: string) => {
    await client.query('begin')
    const { rows } = await client.query<{ tenant: string }>(`${statement} returning tenant_id as tenant`)
    await client.query('rollback')
    return [...new Set(rows.map(({ tenant }) => tenant))]
  }
  for (const table of tables) {
    const before = await others(table)
    const { tenant: privileges = [] } = tableWalls[table]?.grants ?? {}
    for (const [privilege, statement] of [
      ['UPDATE', `update ${table} set tenant_id = tenant_id`], ['DELETE', `delete from ${table}`]
    ] as const) {
      if (privileges.includes(privilege)) {
        t.strictSame(await changed(statement), ['a'], statement)
        t.strictSame(await changed(`${statement} where tenant_id = 'b'`), [], statement)
      } else {
        await t.rejects(client.query(statement), DENIED, statement)
      }
    }
    for (const tenant of ['b', 'c']) {
      const moved = readable.includes(table) ? movedTo(table, tenant) : `(tenant_id) values ('${tenant}')`
      await t.rejects(client.query(`insert into ${table} ${moved}`), DENIED, `insert into ${table}`)
      await t.rejects(client.query(`update ${table} set tenant_id = '${tenant}'`), DENIED, `update ${table}`)
    }
    await t.rejects(client.query(`truncate ${table}`), DENIED, table)
    await t.rejects(client.query(`alter table ${table} disable row level security`), DENIED, table)
    await t.rejects(client.query(`drop policy wall_tenant on ${table}`), DENIED, table)
    t.strictSame(await others(table), before, table)
  }
  await t.rejects(
    client.query(
      "insert into tenant_configs (tenant_id) values ('b') on conflict (tenant_id) do update set waba_id = 'taken'"
    ),
    DENIED
  )
})

await t.test('the role of tenants becomes no other role', async (t) => {
  const client = await tenantLogin()
  for (const role of ['admin', 'loader', 'worker']) {
    await t.rejects(client.query(`set role tenant_config_${role}`), DENIED)
    await t.rejects(client.query("select set_config('role', $1, false)", [`tenant_config_${role}`]), DENIED)
  }
  await t.rejects(client.query('set session authorization default; create table mine ()'), DENIED)
  await t.rejects(client.query("copy tenant_configs to program 'cat'"), DENIED)
})

await t.test('a function in the query sees no row of another tenant', async (t) => {
  const client = await tenantLogin()
  await query(url, `create function leak(text) returns boolean language plpgsql cost 0.0000001 as $$
    begin raise notice '%', $1; return true; end $$`)
  await as(client, 'a')
  const notices: Array<string | undefined> = []
  client.on('notice', ({ message }) => { notices.push(message) })
  await client.query('select from tenant_configs where leak(access_token)')
  await client.query('select from tenant_configs where leak(access_token) and tenant_id = $1', ['b'])
  t.strictSame(notices, ['sealed-of-a'])
  // An estimate of the planner from its statistics would tell the values of others.
  await query(url, 'analyze tenant_configs')
  await t.rejects(client.query('select from pg_statistic'), DENIED)
  t.strictSame((await client.query("select from pg_stats where tablename = 'tenant_configs'")).rows, [])
})

await t.test('a connection that comes back to the pool has neither the role nor the tenant', async (t) => {
  const { app } = await buildTestApp(t, { DATABASE_URL: url, DATABASE_POOL_MAX: 1 })
  const own = app.database.ofTenant('a', 'somebody')
  const who = sql<Row>`${sql.raw(WHO)}`
  t.strictSame(await own.run(who), [{ role: 'tenant_config_tenant', tenant: 'a', actor: 'somebody', rows: 1 }])
  await t.rejects(own.run(sql`select 1 / 0`))
  await t.rejects(own.transaction(async (tx) => {
    await tx.run(sql`select 1`)
    throw new Error('the work fails')
  }))
  const pool = app.pg['tenantConfig']?.pool
  t.equal(pool?.totalCount, 1)
  const { rows: [row] = [] } = await pool?.query<Row>(WHO) ?? {}
  t.match(row, { tenant: '', actor: '', rows: 2 })
  t.not(row?.role, 'tenant_config_tenant')
  t.strictSame(await app.database.run(who), [{ role: 'tenant_config_worker', tenant: '', actor: '', rows: 2 }])
})
