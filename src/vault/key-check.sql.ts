import { sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { vaultKeys } from '../database/schema/vault.js'
import { onlyRow } from '../database/statement.js'
import type { SealedPlace } from '../schemas/columns.js'
import type { SealFormat } from '../schemas/statuses.js'
import { storedSecrets } from './sealed-places.sql.js'

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
    // Two instances may have different keys under one id: the second reads the check value of the first below.
    const values = ring.checkValues().map((value) => ({ ...value, format: 'v2' as const }))
    await tx.insert(vaultKeys).values(values).onConflictDoNothing()
    const keys = await tx.select().from(vaultKeys)
    for (const { key_id: id, check_value: checkValue } of keys) {
      if (ring.keyIds.includes(id)) {
        if (ring.hasSealed(checkValue)) continue
        throw otherKey(id)
      } else if (await isInUse(tx, id)) {
        throw new Error(`ENCRYPTION_KEYS lacks the key ${id}, which stored secrets are sealed with. ` +
          'Add it to the end of the list.')
      }
    }
    return onlyRow(keys.filter(({ key_id: id }) => id === ring.keyIds[0])).format
  })
}

/** The error of a ring that holds another key under a stored id. */
export const otherKey = (id: string) => new Error(`ENCRYPTION_KEYS holds another key under the id ${id} ` +
  'than the one this database was sealed with. Give the new key a new id.')

/** Whether the key with this id sealed a stored secret. Reads all rows when it sealed none. */
async function isInUse (db: Pick<NodePgDatabase, 'execute'>, id: string): Promise<boolean> {
  const { rows } = await db.execute(sql`
    select from ${storedSecrets} where split_part(sealed, '.', 2) = ${id} limit 1`)
  return rows.length > 0
}

/** A stored secret, and the place it was sealed for. */
export interface StoredSecret { tenant_id: string, column: SealedPlace, sealed: string }

/** The number of stored secrets that a key sealed in a format; both are null for those that are not sealed. */
export interface SealedCount { key_id: string | null, format: SealFormat | null, count: number }

/** Counts the stored secrets by key and format, in the order of the key ids. Reads all rows. */
export async function countSealed (db: Pick<NodePgDatabase, 'execute'>): Promise<SealedCount[]> {
  // A value that is not sealed may be a secret in clear: no part of it may be returned.
  // The expression is slow, so it reads each prefix once.
  const { rows } = await db.execute<SealedCount & Record<string, unknown>>(sql`
    select parts[2] as key_id, parts[1] as format, sum(count)::int as count from (
      select split_part(sealed, '.', 1) || '.' || split_part(sealed, '.', 2) || '.' as prefix, count(*)
      from ${storedSecrets} group by prefix
    ) as prefixes, regexp_match(prefix, '^(v[12])\\.([A-Za-z0-9_-]{1,32})\\.$') as parts
    group by parts order by 1, 2`)
  return rows
}

/** Returns some of the secrets that a key sealed. */
export async function selectSample (
  db: Pick<NodePgDatabase, 'execute'>, keyId: string, size: number
): Promise<StoredSecret[]> {
  const { rows } = await db.execute<StoredSecret & Record<string, unknown>>(sql`
    select tenant_id, "column", sealed from ${storedSecrets} where split_part(sealed, '.', 2) = ${keyId} limit ${size}`)
  return rows
}
