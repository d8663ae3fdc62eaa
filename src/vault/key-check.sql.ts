import { or, sql, type SQLWrapper } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { onboardings } from '../database/schema/onboardings.js'
import { tenantConfigs } from '../database/schema/tenant-configs.js'
import { vaultKeys } from '../database/schema/vault.js'
import { onlyRow } from '../database/statement.js'
import { secretColumns, type SecretColumn } from '../schemas/columns.js'
import type { SealFormat } from '../schemas/statuses.js'

interface Ring {
  keyIds: string[]
  checkValues: () => (typeof vaultKeys.$inferInsert)[]
  hasSealed: (checkValue: string) => boolean
}

/**
 * Checks the key ring against the database, and inserts the check values of new keys.
 *
 * @returns the format in which the first key seals. A former version may still serve with a key that it inserted: that
 * one seals in `v1` until it is rotated.
 * @throws when the ring lacks a key of a stored value, or holds another key under a stored id
 */
export async function checkKeys (db: NodePgDatabase, ring: Ring): Promise<SealFormat> {
  // A rejected ring must insert nothing.
  return await db.transaction(async (tx) => {
    // Of two instances with different keys under one id, the second reads the check value of the first below.
    const values = ring.checkValues().map((value) => ({ ...value, format: 'v2' as const }))
    await tx.insert(vaultKeys).values(values).onConflictDoNothing()
    const keys = await tx.select().from(vaultKeys)
    for (const { key_id: id, check_value: checkValue } of keys) {
      if (ring.keyIds.includes(id)) {
        if (ring.hasSealed(checkValue)) continue
        throw new Error(`ENCRYPTION_KEYS holds another key under the id ${id} ` +
          'than the one this database was sealed with. Give the new key a new id.')
      } else if (await isInUse(tx, id)) {
        throw new Error(`ENCRYPTION_KEYS lacks the key ${id}, which stored secrets are sealed with. ` +
          'Add it to the end of the list.')
      }
    }
    return onlyRow(keys.filter(({ key_id: id }) => id === ring.keyIds[0])).format
  })
}

/** Whether the key with this id sealed a stored secret. Reads all rows when it sealed none. */
export async function isInUse (db: Pick<NodePgDatabase, 'execute'>, id: string): Promise<boolean> {
  const isNamed = (sealed: SQLWrapper) => sql`split_part(${sealed}, '.', 2) = ${id}`
  const named = secretColumns.map((column) => isNamed(tenantConfigs[column]))
  const { rows } = await db.execute(sql`
    (select 1 from ${tenantConfigs} where ${or(...named)} limit 1) union all
    (select 1 from ${onboardings} where ${isNamed(onboardings.access_token)}
      or ${isNamed(sql`${onboardings.former} ->> 'access_token'`)} limit 1)`)
  return rows.length > 0
}

/** A stored secret, and the place it was sealed for. */
export interface StoredSecret { tenant_id: string, column: SecretColumn, sealed: string }

const stored = sql`(
  select tenant_id, unnest(array[${sql.join(secretColumns.map((column) => sql`${column}`), sql`, `)}]) as "column",
    unnest(array[${sql.join(secretColumns.map((column) => sql`${tenantConfigs[column]}`), sql`, `)}]) as sealed
    from ${tenantConfigs}
  union all
  select tenant_id, 'access_token', unnest(array[access_token, former ->> 'access_token']) from ${onboardings}
) as stored`

/** Returns the ids of the keys that sealed the stored secrets; null for one that is not sealed. Reads all rows. */
export async function selectKeysInUse (db: Pick<NodePgDatabase, 'execute'>): Promise<Array<string | null>> {
  const { rows } = await db.execute<{ key_id: string | null }>(sql`
    select distinct substring(sealed from '^v[12]\.([A-Za-z0-9_-]{1,32})\.') as key_id
    from ${stored} where sealed is not null order by key_id`)
  return rows.map(({ key_id: id }) => id)
}

/** Returns some of the secrets that a key sealed. */
export async function selectSample (
  db: Pick<NodePgDatabase, 'execute'>, keyId: string, size: number
): Promise<StoredSecret[]> {
  const { rows } = await db.execute<StoredSecret & Record<string, unknown>>(sql`
    select tenant_id, "column", sealed from ${stored} where split_part(sealed, '.', 2) = ${keyId} limit ${size}`)
  return rows
}

/** Returns the check values of all keys that were ever in the ring. */
export async function selectCheckValues (
  db: Pick<NodePgDatabase, 'execute'>
): Promise<Array<{ key_id: string, check_value: string }>> {
  const { rows } = await db.execute<{ key_id: string, check_value: string }>(sql`
    select key_id, check_value from ${vaultKeys} order by key_id`)
  return rows
}
