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

async function isInUse (db: Pick<NodePgDatabase, 'execute'>, id: string): Promise<boolean> {
  const prefix = `v1.${id}.`
  const named = secretColumns.map((column) => sql`starts_with(${tenantConfigs[column]}, ${prefix})`)
  const { rows } = await db.execute(sql`
    (select 1 from ${tenantConfigs} where ${or(...named)} limit 1) union all
    (select 1 from ${onboardings} where starts_with(${onboardings.access_token}, ${prefix})
      or starts_with(${onboardings.former} ->> 'access_token', ${prefix}) limit 1)`)
  return rows.length > 0
}
