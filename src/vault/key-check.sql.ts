import { or, sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { onboardings, tenantConfigs, vaultKeys } from '../database/schema.js'
import { secretColumns } from '../schemas/columns.js'

interface Ring {
  keyIds: string[]
  checkValues: () => (typeof vaultKeys.$inferInsert)[]
  hasSealed: (checkValue: string) => boolean
}

/**
 * Proves that the key ring fits the database, and enters keys that are new.
 * Throws when the ring lacks a key that a stored value names, or holds another key under the id of one that was used here.
 */
export async function checkKeys (db: NodePgDatabase, ring: Ring): Promise<void> {
  // In a transaction, so that a ring that is refused enters nothing.
  await db.transaction(async (tx) => {
    // First come, first entered: of two instances with different keys under one id, the second finds the first one's value below.
    await tx.insert(vaultKeys).values(ring.checkValues()).onConflictDoNothing()
    for (const { key_id: id, check_value: checkValue } of await tx.select().from(vaultKeys)) {
      if (ring.keyIds.includes(id)) {
        if (!ring.hasSealed(checkValue)) throw new Error(`ENCRYPTION_KEYS holds another key under the id ${id} than the one this database was sealed with. Give the new key a new id.`)
      } else if (await isInUse(tx, id)) {
        throw new Error(`ENCRYPTION_KEYS lacks the key ${id}, which stored secrets are sealed with. Add it to the end of the list.`)
      }
    }
  })
}

async function isInUse (db: Pick<NodePgDatabase, 'execute'>, id: string): Promise<boolean> {
  const prefix = `v1.${id}.`
  const named = secretColumns.map((column) => sql`starts_with(${tenantConfigs[column]}, ${prefix})`)
  const { rows } = await db.execute(sql`
    (select 1 from ${tenantConfigs} where ${or(...named)} limit 1) union all
    (select 1 from ${onboardings} where starts_with(${onboardings.access_token}, ${prefix}) limit 1)`)
  return rows.length > 0
}
