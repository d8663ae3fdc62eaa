import { and, desc, eq, lt, sql, type SQL } from 'drizzle-orm'
import { tenantConfigs } from '../../database/schema/tenant-configs.js'
import { tenantConfigVersions as table, versionPolicy, type VersionRow } from '../../database/schema/versions.js'
import { builder } from '../../database/statement.js'
import { writableNames, type WritableColumn } from '../../schemas/columns.js'
import type { TaggedRow } from '../if-match.js'
import { etag } from '../tenant-configs.sql.js'

/** A stored version, and whether its state was verified. Its secrets are sealed. */
export type Version = VersionRow & { verified: boolean }

/**
 * The state that a deletion ended. `exists`: the tenant has a row again. `is_superseded`: it has a newer version, so it
 * had one.
 */
export type DeletedVersion = Version & { exists: boolean, is_superseded: boolean }

const verified = sql<boolean>`${table.last_verified_at} is not null`.as('verified')

/** Selects the newest versions of a tenant; with `before` the newest of those with a smaller number. */
export function pageQuery (tenantId: string, limit: number, before?: number) {
  const { version, changed_at, actor, changed } = table
  return builder.select({ version, changed_at, actor, changed, verified }).from(table)
    .where(and(eq(table.tenant_id, tenantId), before === undefined ? undefined : lt(version, before)))
    .orderBy(desc(version)).limit(limit)
}

const version = sql`select version.*, last_verified_at is not null as verified from tenant_config_versions version`

/** Selects a version of a tenant; `number` may be larger than any. */
export const versionQuery = (tenantId: string, number: string) => sql<Version>`
  ${version} where tenant_id = ${tenantId} and version = ${number}::bigint`

/** Selects the newest verified version of a tenant with a number below `before`. */
export const verifiedQuery = (tenantId: string, before: number) => sql<Version>`
  ${version} where tenant_id = ${tenantId} and version < ${before}::bigint and last_verified_at is not null
  order by version desc limit 1`

/** `keys` selects the tenants and numbers from the table. */
const deletedQuery = (keys: SQL) => sql<DeletedVersion>`
  select version.*, last_verified_at is not null as verified,
    exists (select from tenant_configs config where config.tenant_id = version.tenant_id) as "exists",
    exists (select from tenant_config_versions newer
      where newer.tenant_id = version.tenant_id and newer.version > version.version) as is_superseded
  from (select tenant_id, version from tenant_config_versions where ${keys}) as key
  join tenant_config_versions version using (tenant_id, version) order by tenant_id`

/** Selects the last deleted state of a tenant. */
export const lastDeletedQuery = (tenantId: string) =>
  deletedQuery(sql`tenant_id = ${tenantId} and changed = '{deleted}' order by version desc limit 1`)

/**
 * Selects states that a batch deleted, in the order of their tenants, from the one after `after`. An index has all
 * columns of the inner query, so that PostgreSQL does not sort the whole batch, also without statistics of it.
 */
export const batchQuery = (batchId: string, after: string, limit: number) =>
  deletedQuery(sql`batch_id = ${batchId} and tenant_id > ${after} order by tenant_id limit ${limit}`)

/** The columns that a new row gets from a version. What Meta confirmed then is unverified now. */
const recreatedNames = ['tenant_id', 'user_id', ...writableNames, 'is_active', 'onboarded_at', 'created_at'] as const
const recreated = sql.join(recreatedNames.map((name) => sql.identifier(name)), sql`, `)

/** Inserts rows from versions. The lock lets a purge end first, which deletes the version. */
const recreate = (which: SQL, onConflict: SQL) => sql<TaggedRow>`
  insert into tenant_configs (${recreated})
  select ${recreated} from (
    select * from tenant_config_versions where ${which} order by tenant_id for update
  ) as former
  on conflict (tenant_id) ${onConflict} returning tenant_configs.*, ${etag} as etag`

/**
 * Writes the writable columns of a version, but those in `kept`, to the row of its tenant; inserts the row if there is
 * none. Returns no row when the version is deleted by now.
 */
export function restoreQuery ({ tenant_id, version }: Version, kept: Set<WritableColumn>, isSameIdentity: boolean) {
  const values = writableNames.map((name) => {
    const column = sql.identifier(name)
    return sql`${column} = ${kept.has(name) ? tenantConfigs : sql`excluded`}.${column}`
  })
  const unverified = isSameIdentity ? sql`` : sql`, onboarding_completed = false, last_verified_at = null`
  return recreate(
    sql`tenant_id = ${tenant_id} and version = ${version}`, sql`do update set ${sql.join(values, sql`, `)}${unverified}`
  )
}

/** Inserts the rows of versions, and returns those whose tenants had none. */
export function recreateQuery (versions: DeletedVersion[]) {
  const ids = sql.param(versions.map(({ tenant_id: id }) => id))
  const numbers = sql.param(versions.map(({ version }) => version))
  return recreate(
    sql`(tenant_id, version) in (select * from unnest(${ids}::text[], ${numbers}::integer[]))`, sql`do nothing`
  )
}

/** Writes the policy that the triggers follow. */
export const policyQuery = (policy: Pick<typeof versionPolicy.$inferInsert, 'retention_days' | 'max_per_tenant'>) =>
  builder.insert(versionPolicy).values(policy)
    .onConflictDoUpdate({ target: versionPolicy.is_present, set: policy }).returning()
