import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { embeddedServer } from '../bench/stage/database.js'
import { seedPlaceholders } from '../bench/stage/seed.js'
import { query } from '../helper.js'

/** An empty database on the server of TEST_DATABASE_URL, or on a new embedded one. */
export async function openDatabase (): Promise<{ url: string, remove: () => Promise<void> }> {
  const given = process.env['TEST_DATABASE_URL']
  const name = `wtc_upgrade_${randomBytes(8).toString('hex')}`
  const { url, close } = given === undefined
    ? await embeddedServer()
    : { url: given, close: async () => { await query(given, `drop database ${name} with (force)`) } }
  await query(url, `create database ${name}`)
  return { url: Object.assign(new URL(url), { pathname: `/${name}` }).href, remove: close }
}

const onboardings = `
  insert into onboardings (tenant_id, code_hash, status, steps, waba_id, phone_number_id)
  select 'tenant-' || i, 'hash-' || i, 'completed', '[]', 'w' || i, 'p' || i from generate_series(1, $1::int) as i`

/** The steps of these onboardings, recorded later as the service does; every tenth set the callback of its number. */
const steps = `
  update onboardings set steps = jsonb_build_array(
    jsonb_build_object('name', 'exchange', 'status', 'done', 'attempts', 1, 'at', '2026-11-01T00:00:00.000Z',
      'evidence', null, 'error', null),
    jsonb_build_object('name', 'subscribe', 'status', 'done', 'attempts', 1, 'at', '2026-11-01T00:00:01.000Z',
      'evidence', jsonb_build_object('callback', case when i % 10 = 0 then 'phone_number' else 'account' end),
      'error', null)
  ) from generate_series(1, $1::int) as i where onboardings.tenant_id = 'tenant-' || i`

/** Fills a database of the former version with so many tenants, and a tenth as many onboardings. */
export async function fill (url: string, tenants: number): Promise<void> {
  await seedPlaceholders(url, tenants)
  for (const statement of [onboardings, steps]) await query(url, statement, [Math.ceil(tenants / 10)])
}

/** Reads every table in a transaction that stays open, as `pg_dump` does. */
export async function openReader (url: string): Promise<pg.Client> {
  const client = new pg.Client(url)
  await client.connect()
  const { rows } = await client.query<{ name: string }>(
    "select quote_ident(tablename) as name from pg_tables where schemaname = 'public'"
  )
  await client.query(
    `begin isolation level repeatable read; lock table ${rows.map(({ name }) => name).join(', ')} in access share mode`
  )
  return client
}

/** The faults of the upgraded rows. */
export async function faultsOf (url: string): Promise<string[]> {
  const checks: Record<string, string> = {
    'the squatter is verified': "select from verified_identities where tenant_id = 'squatter'",
    'the owner is not verified': "select where not exists (select from verified_identities where tenant_id = 'owner')",
    'a verified tenant has no verified identity': `select from tenant_configs config
      where waba_id is not null and last_verified_at is not null and not exists (
        select from verified_identities verified where verified.tenant_id = config.tenant_id)`,
    'a verified identity is of other ids': `select from verified_identities verified where not exists (
      select from tenant_configs config where config.tenant_id = verified.tenant_id
        and config.waba_id = verified.waba_id
        and config.phone_number_id is not distinct from verified.phone_number_id)`,
    'a callback of a number is missing': `select from onboardings
      where tenant_id like 'tenant-%' and steps -> 1 -> 'evidence' ->> 'callback' = 'phone_number' and not exists (
        select from phone_callbacks callback where callback.phone_number_id = onboardings.phone_number_id)`,
    'a token has no watch': `select from tenant_configs config where access_token is not null
      and not exists (select from token_watch watch where watch.tenant_id = config.tenant_id)`,
    'an index is invalid': 'select from pg_index where not indisvalid'
  }
  const faults = []
  for (const [fault, check] of Object.entries(checks)) {
    const rows = (await query(url, check)).length
    if (rows > 0) faults.push(`${fault}: ${rows}`)
  }
  return faults
}
