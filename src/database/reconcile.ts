import { getTableName, sql, type SQL } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { withConnection } from './connection.js'
import { configCountChanges, configCounts } from './schema/counts.js'
import { onboardings } from './schema/onboardings.js'
import { phoneNumbers, tenantConfigs, tokenWatch, verifiedIdentities } from './schema/tenant-configs.js'
import { tenantConfigVersions } from './schema/versions.js'
import { onlyRow } from './statement.js'

const BATCH = 1000
const LOCK_TIMEOUT_MS = 500

/** The functions of our triggers. Our tables may have foreign triggers too. */
const FUNCTIONS = [
  'tenant_configs_touch', 'tenant_configs_changed', 'tenant_configs_gone', 'tenant_configs_switched',
  'token_watch_insert', 'token_watch_update', 'token_watch_changed', 'token_watch_flags',
  'verified_identities_follow', 'phone_callbacks_follow',
  'tenant_config_versions_update', 'tenant_config_versions_delete',
  'tenant_configs_counted', 'token_watch_counted', 'phone_numbers_counted', 'config_counts_emptied',
  'secrets_counted', 'onboarding_tokens_counted',
  'config_counts_guard'
]
const TABLES = [
  tenantConfigs, tenantConfigVersions, onboardings, tokenWatch, verifiedIdentities, phoneNumbers, configCounts,
  configCountChanges
].map((table) => getTableName(table))

/** Rows that a trigger would have inserted or deleted: the query of their tenants, and the repair. */
interface Difference { find: SQL, repair: (ids: SQL) => SQL[] }

const isWatched = sql`exists (select from token_watch watch where watch.tenant_id = config.tenant_id)`
const hasToken = sql`exists (select from tenant_configs config
  where config.tenant_id = row.tenant_id and config.access_token is not null)`
const hasOtherFlags = sql`(watch.tenant_is_active, watch.tenant_is_onboarded)
  is distinct from (config.is_active, config.onboarding_completed)`
const isParked = sql`config.is_active and watch.next_check_at = '9999-12-31Z'`
const isOwned = sql`exists (select from verified_identities verified
  where verified.tenant_id = config.tenant_id or verified.phone_number_id = config.phone_number_id)`
const hasIds = sql`exists (select from tenant_configs config where config.tenant_id = row.tenant_id
  and config.waba_id = row.waba_id and config.phone_number_id is not distinct from row.phone_number_id)`

const hasConfig = sql`exists (select from tenant_configs config where config.tenant_id = row.tenant_id)`
const hasNumber = sql`exists (select from tenant_configs config
  where config.tenant_id = row.tenant_id and config.phone_number_id = row.phone_number_id)`

const differences: Record<string, Difference> = {
  'tokens without a watch': missingRows(sql`token_watch (tenant_id, next_check_at)`,
    sql`tenant_id, case when is_active then now() else '9999-12-31Z' end`, sql`access_token is not null`, isWatched),
  'watches without a token': orphanedRows(sql`token_watch`, hasToken),
  'tokens that are never due': {
    find: sql`select config.tenant_id from token_watch watch
      join tenant_configs config using (tenant_id) where ${isParked}`,
    repair: (ids) => [sql`update token_watch watch set next_check_at = now() from tenant_configs config
      where watch.tenant_id = config.tenant_id and watch.tenant_id = any(${ids}) and ${isParked}`]
  },
  'watches with other flags': {
    find: sql`select config.tenant_id from token_watch watch
      join tenant_configs config using (tenant_id) where ${hasOtherFlags}`,
    // A separate statement locks the rows: the next one then sees the latest flags.
    repair: (ids) => [
      sql`select from tenant_configs where tenant_id = any(${ids}) order by id for no key update`,
      sql`update token_watch watch
        set tenant_is_active = config.is_active, tenant_is_onboarded = config.onboarding_completed
        from tenant_configs config
        where watch.tenant_id = config.tenant_id and watch.tenant_id = any(${ids}) and ${hasOtherFlags}`
    ]
  },
  'verified identities of other ids': orphanedRows(sql`verified_identities`, hasIds),
  'phone numbers of other ids': orphanedRows(sql`phone_numbers`, hasNumber),
  'account states without a tenant': orphanedRows(sql`account_states`, hasConfig),
  'missing verified identities': missingRows(sql`verified_identities (tenant_id, waba_id, phone_number_id)`,
    sql`tenant_id, waba_id, phone_number_id`, sql`last_verified_at is not null and waba_id is not null`, isOwned)
}

/** The repair locks the rows until the commit: a trigger that deletes an inserted row waits for it. */
function missingRows (into: SQL, columns: SQL, isDue: SQL, exists: SQL): Difference {
  return {
    find: sql`select tenant_id from tenant_configs config where ${isDue} and not ${exists}`,
    repair: (ids) => [sql`insert into ${into} select ${columns} from tenant_configs
      where tenant_id = any(${ids}) and ${isDue} order by id for no key update on conflict do nothing`]
  }
}

/** A separate statement locks the rows: the next one then sees the changes of concurrent triggers. */
function orphanedRows (table: SQL, isDue: SQL): Difference {
  return {
    find: sql`select tenant_id from ${table} row where not ${isDue}`,
    repair: (ids) => [
      sql`select from ${table} where tenant_id = any(${ids}) order by tenant_id for update`,
      sql`delete from ${table} row where tenant_id = any(${ids}) and not ${isDue}`
    ]
  }
}

/**
 * Repairs the rows of `token_watch` and `verified_identities`, and the counts, after writes with the triggers off, such
 * as those of `pg_restore --disable-triggers`. Sets the triggers to ALWAYS, and the sequence of `tenant_configs.id`
 * past its rows: `pg_restore` does neither. Other instances may serve meanwhile. Without differences it costs four
 * index-only scans.
 *
 * @param url postgres://…; a pooler may be in between
 * @returns the number of repairs by their name, without zeros
 * @throws errors of PostgreSQL; a lock times out after 500 ms
 */
export async function reconcile (url: string): Promise<Record<string, number>> {
  return await withConnection(url, async (db) => {
    const found: Record<string, number> = { 'sequences behind': await advanceSequence(db) }
    const { rows: triggers } = await db.execute<Trigger>(triggersOff)
    const { rows_differ: doRowsDiffer, counts_differ: doCountsDiffer } = onlyRow((await db.execute<Check>(check)).rows)
    const isDue = triggers.length > 0 || doRowsDiffer
    if (isDue) {
      found['triggers not ALWAYS'] = triggers.length
      await enable(db, triggers.filter(({ state }) => state === 'D'), sql`enable trigger`)
      for (const [name, { find, repair }] of Object.entries(differences)) {
        found[name] = await forEachBatch(url, find, async (ids) => { await runAll(db, repair(ids)) })
      }
    }
    if (isDue || doCountsDiffer) found['wrong counts'] = await recount(db)
    // Last: their state makes the next start repeat an interrupted repair.
    await enable(db, triggers, sql`enable always trigger`)
    return Object.fromEntries(Object.entries(found).filter(([, count]) => count > 0))
  })
}

/** One of our triggers; its `state` is `D` when it is off, `O` when `session_replication_role` may skip it. */
interface Trigger extends Record<string, unknown> { table: string, name: string, state: string }

const triggersOff = sql`
  select relname as table, tgname as name, tgenabled as state
  from pg_trigger join pg_proc on pg_proc.oid = tgfoid join pg_class on pg_class.oid = tgrelid
  where tgrelid = any(${sql.param(TABLES)}::regclass[]) and proname = any(${sql.param(FUNCTIONS)}) and tgenabled <> 'A'`

interface Check extends Record<string, unknown> { rows_differ: boolean, counts_differ: boolean }

/** Compares tokens with watches, and rows with counts, in one snapshot. */
const check = sql`
  select tokens.count <> watches.count as rows_differ,
    row(configs.*, tokens.count, watches.count, numbers.count) is distinct from row(counted.*) as counts_differ
  from (
    select count(*), count(*) filter (where is_active) as active,
      count(*) filter (where onboarding_completed) as onboarded
    from tenant_configs
  ) configs, (
    select count(*) from tenant_configs where access_token is not null
  ) tokens, (
    select count(*) from token_watch
  ) watches, (
    select count(*) from phone_numbers
  ) numbers, (
    select ${sumWhere(sql`name = 'total'`)}, ${sumWhere(sql`name = 'active'`)}, ${sumWhere(sql`name = 'onboarded'`)},
      ${sumWhere(sql`name in ('no_expiry', 'expires_day')`)}, ${sumWhere(sql`source = 'token_watch'`)},
      ${sumWhere(sql`source = 'phone_numbers'`)}
    from (select * from config_counts union all select * from config_count_changes) counts
    where source in ('tenant_configs', 'token_watch', 'phone_numbers')
  ) counted`

function sumWhere (condition: SQL): SQL {
  return sql`coalesce(sum(count) filter (where ${condition}), 0)`
}

/** Corrects the counts, and returns how many were wrong. Each statement must see what the one before waited for. */
async function recount (db: NodePgDatabase): Promise<number> {
  return await db.transaction(async (tx) => onlyRow(
    (await tx.execute<{ wrong: number }>(sql`select config_counts_recount() as wrong`)).rows
  ).wrong, { isolationLevel: 'read committed' })
}

async function enable (db: NodePgDatabase, triggers: Trigger[], how: SQL): Promise<void> {
  for (const { table, name } of triggers) {
    await runAll(db, [sql`alter table ${sql.identifier(table)} ${how} ${sql.identifier(name)}`])
  }
}

/** Runs statements in a transaction: a setting of the session would stay behind with a pooler. */
async function runAll (db: NodePgDatabase, statements: SQL[]): Promise<void> {
  await db.transaction(async (tx) => {
    await tx.execute(sql`select set_config('lock_timeout', ${String(LOCK_TIMEOUT_MS)}, true)`)
    for (const statement of statements) await tx.execute(statement)
  })
}

async function advanceSequence (db: NodePgDatabase): Promise<number> {
  const { rows } = await db.execute(sql`
    select setval('tenant_configs_id_seq', newest) from (select max(id) as newest from tenant_configs) as configs
    where newest >= (select last_value + is_called::int from tenant_configs_id_seq)`)
  return rows.length
}

/** Finds tenants, and passes them on in batches. Returns their number. */
async function forEachBatch (url: string, find: SQL, work: (ids: SQL) => Promise<void>): Promise<number> {
  // On a connection of its own: one scan finds all rows, and the cursor lives as long as the transaction.
  return await withConnection(url, async (db) => await db.transaction(async (tx) => {
    await tx.execute(sql`select set_config('cursor_tuple_fraction', '1', true)`)
    await tx.execute(sql`declare different cursor for ${find}`)
    for (let count = 0; ;) {
      const { rows } = await tx.execute<{ tenant_id: string }>(sql.raw(`fetch ${BATCH} from different`))
      if (rows.length === 0) return count
      await work(sql`${sql.param(rows.map(({ tenant_id: id }) => id))}::text[]`)
      count += rows.length
    }
  }))
}
