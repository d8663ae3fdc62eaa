import { sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { SealedPlace } from '../../schemas/columns.js'
import type { StoredSecret } from '../key-check.sql.js'
import { storedSecrets, type SealedTable } from '../sealed-places.sql.js'

type Transaction = Pick<NodePgDatabase, 'execute'>

/** Bounds a wait for a row. PostgreSQL looks for deadlocks after 1 s, and might end a request. */
const LOCK_TIMEOUT_MS = 200
/** PostgreSQL ends the transaction of a process that stopped in it, and its locks. */
const IDLE_TIMEOUT_MS = 10_000

// Other processes continue an onboarding whose lease ended so long ago, too.
const isLeased = sql`held_until > now() - interval '10 seconds'`

/** Runs a transaction of a rotation. The triggers ignore its updates. */
export async function inRotation<T> (db: NodePgDatabase, work: (tx: Transaction) => Promise<T>): Promise<T> {
  return await db.transaction(async (tx) => {
    await tx.execute(sql`select set_config('app.resealing', 'on', true), set_config('statement_timeout', '0', true),
      set_config('lock_timeout', ${String(LOCK_TIMEOUT_MS)}, true),
      set_config('idle_in_transaction_session_timeout', ${String(IDLE_TIMEOUT_MS)}, true)`)
    return await work(tx)
  })
}

/** The tenants of some rows, and the key of the last row; null after the end. */
export interface TenantPage { tenantIds: string[], last: string | number | null }

/** Reads the next rows with values that do not begin with `prefix`, in the order of their keys. */
export async function nextTenants (
  tx: Transaction, { table, key, tenantId, places }: SealedTable, prefix: string, after: TenantPage['last'],
  limit: number
): Promise<TenantPage> {
  const isAfter = after === null ? sql`true` : sql`${key} > ${after}`
  const isOutdated = places.map(({ stored }) => sql`not starts_with(${stored}, ${prefix})`)
  const { rows } = await tx.execute<{ key: string | number, tenant_id: string }>(sql`
    select ${key} as key, ${tenantId} as tenant_id from ${table}
    where ${isAfter} and (${sql.join(isOutdated, sql` or `)}) order by ${key} limit ${limit}`)
  return { tenantIds: [...new Set(rows.map(({ tenant_id: id }) => id))], last: rows.at(-1)?.key ?? null }
}

/**
 * Locks the configurations of tenants, and their onboardings that no process executes: none begins before the commit.
 * The executor of an ended lease loses it: it may be frozen, with a former value in its memory.
 */
export async function lockTenants (tx: Transaction, tenantIds: string[]): Promise<void> {
  const ofTenants = sql`tenant_id = any(${sql.param(tenantIds)}::text[])`
  // All writers lock a configuration before its onboardings, and several in the order of their ids.
  await tx.execute(sql`select from tenant_configs where ${ofTenants} order by id for no key update`)
  await tx.execute(sql`update onboardings set holder = null
    where ${ofTenants} and status = 'in_progress' and ${isLeased} is not true`)
}

/** A stored secret, and how many places have it. */
export type OutdatedSecret = StoredSecret & { count: number }

/**
 * Reads the values of locked tenants that do not begin with `prefix`. Leaves out a tenant whose onboarding a process
 * executes: that compares the values in its memory with the stored ones.
 */
export async function selectOutdated (tx: Transaction, tenantIds: string[], prefix: string): Promise<OutdatedSecret[]> {
  const { rows } = await tx.execute<OutdatedSecret & Record<string, unknown>>(sql`
    select tenant_id, "column", sealed, count(*)::int as count from ${storedSecrets}
    where tenant_id = any(${sql.param(tenantIds)}::text[]) and not starts_with(sealed, ${prefix}) and not exists (
      select from onboardings where onboardings.tenant_id = stored.tenant_id and status = 'in_progress' and ${isLeased})
    group by tenant_id, "column", sealed`)
  return rows
}

/** The new values of a tenant by the former ones, for each column that they are sealed for. */
export type NewValues = Partial<Record<SealedPlace, Record<string, string>>>

/** Replaces the values in a table that are still the former ones; `byTenant` has the new ones. */
export async function replaceSealed (
  tx: Transaction, { table, tenantId, places }: SealedTable, byTenant: Map<string, NewValues>
): Promise<void> {
  const assignments = places.map(({ column, stored, assign }) =>
    assign(sql`coalesce(by_column -> ${column} ->> ${stored}, ${stored})`))
  const isFormer = places.map(({ column, stored }) => sql`by_column -> ${column} ? ${stored}`)
  const maps = [...byTenant.values()].map((values) => JSON.stringify(values))
  await tx.execute(sql`
    update ${table} set ${sql.join(assignments, sql`, `)}
    from unnest(${sql.param([...byTenant.keys()])}::text[], ${sql.param(maps)}::jsonb[]) as resealed (id, by_column)
    where ${tenantId} = resealed.id and (${sql.join(isFormer, sql` or `)})`)
}
