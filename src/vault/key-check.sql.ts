import { or, sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { onboardings, tenantConfigs, vaultKeys } from '../database/schema.js'
import { secretColumns, type SecretColumn } from '../schemas/columns.js'

interface Ring {
  keyIds: string[]
  checkValues: () => (typeof vaultKeys.$inferInsert)[]
  hasSealed: (checkValue: string) => boolean
}

/**
 * Checks the key ring against the database, and inserts the check values of new keys.
 *
 * @throws when the ring lacks a key of a stored value, or holds another key under a stored id
 */
export async function checkKeys (db: NodePgDatabase, ring: Ring): Promise<void> {
  // A rejected ring must insert nothing.
  await db.transaction(async (tx) => {
    // Of two instances with different keys under one id, the second reads the check value of the first below.
    await tx.insert(vaultKeys).values(ring.checkValues()).onConflictDoNothing()
    for (const { key_id: id, check_value: checkValue } of await tx.select().from(vaultKeys)) {
      if (ring.keyIds.includes(id)) {
        if (ring.hasSealed(checkValue)) continue
        throw new Error(`ENCRYPTION_KEYS holds another key under the id ${id} ` +
          'than the one this database was sealed with. Give the new key a new id.')
      } else if (await isInUse(tx, id)) {
        throw new Error(`ENCRYPTION_KEYS lacks the key ${id}, which stored secrets are sealed with. ` +
          'Add it to the end of the list.')
      }
    }
  })
}

/** Whether the key with this id sealed a stored secret. Reads all rows when it sealed none. */
export async function isInUse (db: Pick<NodePgDatabase, 'execute'>, id: string): Promise<boolean> {
  const prefix = `v1.${id}.`
  const named = secretColumns.map((column) => sql`starts_with(${tenantConfigs[column]}, ${prefix})`)
  const { rows } = await db.execute(sql`
    (select 1 from ${tenantConfigs} where ${or(...named)} limit 1) union all
    (select 1 from ${onboardings} where starts_with(${onboardings.access_token}, ${prefix})
      or starts_with(${onboardings.former} ->> 'access_token', ${prefix}) limit 1)`)
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
    select distinct substring(sealed from '^v1\.([A-Za-z0-9_-]{1,32})\.') as key_id
    from ${stored} where sealed is not null order by key_id`)
  return rows.map(({ key_id: id }) => id)
}

/** Returns some of the secrets that a key sealed. */
export async function selectSample (
  db: Pick<NodePgDatabase, 'execute'>, keyId: string, size: number
): Promise<StoredSecret[]> {
  const { rows } = await db.execute<StoredSecret & Record<string, unknown>>(sql`
    select tenant_id, "column", sealed from ${stored} where starts_with(sealed, ${`v1.${keyId}.`}) limit ${size}`)
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
