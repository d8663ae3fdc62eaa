import { getTableName, sql, type SQL, type SQLWrapper } from 'drizzle-orm'
import type { PgColumn, PgTable } from 'drizzle-orm/pg-core'
import { onboardings } from '../database/schema/onboardings.js'
import { tenantConfigs } from '../database/schema/tenant-configs.js'
import { serviceSecrets } from '../database/schema/vault.js'
import { tenantConfigVersions } from '../database/schema/versions.js'
import { secretColumns, SERVICE, type SecretColumn } from '../schemas/columns.js'

/** A place in a row for a sealed value. */
interface Place {
  /** The column that the value is sealed for, as SQL. */
  column: SQL
  /** Reads the sealed value; null without one. */
  stored: SQL
  /** The assignment that replaces it. The new value is null only where the stored one is. */
  assign: (value: SQL) => SQL
}

/** A table with sealed values. */
export interface SealedTable {
  table: PgTable
  /** The table is read in its order. Rows with the same key belong to one tenant. */
  key: PgColumn
  /** The tenant that the values are sealed for. */
  tenantId: SQLWrapper
  places: Place[]
}

const name = (column: SecretColumn) => sql.raw(`'${column}'`)

const ofColumn = (column: SecretColumn, stored: PgColumn): Place => ({
  column: name(column),
  stored: sql`${stored}`,
  assign: (value) => sql`${sql.identifier(stored.name)} = ${value}`
})

/** The tables whose values triggers count in `config_counts`. */
const countedTables: SealedTable[] = [
  {
    table: tenantConfigs,
    key: tenantConfigs.id,
    tenantId: tenantConfigs.tenant_id,
    places: secretColumns.map((column) => ofColumn(column, tenantConfigs[column]))
  },
  {
    table: tenantConfigVersions,
    key: tenantConfigVersions.tenant_id,
    tenantId: tenantConfigVersions.tenant_id,
    places: secretColumns.map((column) => ofColumn(column, tenantConfigVersions[column]))
  },
  {
    table: onboardings,
    key: onboardings.id,
    tenantId: onboardings.tenant_id,
    places: [
      ofColumn('access_token', onboardings.access_token),
      {
        column: name('access_token'),
        stored: sql`(${onboardings.former} ->> 'access_token')`,
        // `jsonb_set` returns null for a null value.
        assign: (value) => sql`former = coalesce(
          jsonb_set(${onboardings.former}, '{access_token}', to_jsonb(${value})), ${onboardings.former})`
      }
    ]
  }
]

/** Every place of a sealed value. The check of the ring, the rotation and all counts derive from this list. */
export const sealedTables: SealedTable[] = [
  ...countedTables,
  {
    table: serviceSecrets,
    key: serviceSecrets.name,
    tenantId: sql.raw(`'${SERVICE}'`),
    places: [{
      column: sql`${serviceSecrets.name}`,
      stored: sql`${serviceSecrets.sealed}`,
      assign: (value) => sql`sealed = ${value}`
    }]
  }
]

/** The sources in `config_counts` that count the sealed values of each table by their key ids. */
export const keyCountSources = countedTables.map(({ table }) => `keys of ${getTableName(table)}`)

/** The key ids of the few values that no trigger counts. */
export const uncountedKeyIds = sql`select split_part(${serviceSecrets.sealed}, '.', 2) from ${serviceSecrets}`

/** All sealed values: a relation `stored (tenant_id, "column", sealed)`. */
export const storedSecrets = sql`(${sql.join(sealedTables.map(({ table, tenantId, places }) => {
  const values = places.map(({ column, stored }) => sql`(${column}, ${stored})`)
  return sql`select ${tenantId} as tenant_id, place."column", place.sealed
    from ${table} cross join lateral (values ${sql.join(values, sql`, `)}) as place ("column", sealed)
    where place.sealed is not null`
}), sql` union all `)}) as stored`
