import { sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'

type Transaction = Pick<NodePgDatabase, 'execute'>

/*
 * An onboarding that stores writes the configuration, then its own record, in one transaction. To take the same locks in the same order
 * avoids deadlocks. To end the onboarding waits for that transaction, and only a later statement sees what it has stored.
 */

const endOnboardings = sql`update onboardings set status = 'failed', access_token = null, holder = null
  where (status = 'in_progress' or holder is not null)`

/** Ends the tenant's onboardings that may go on, or whose executor may yet come back with a token. Returns how many there were. */
export async function endTenantOnboardings (tx: Transaction, tenantId: string): Promise<number> {
  await tx.execute(sql`select from tenant_configs where tenant_id = ${tenantId} for update`)
  const { rowCount } = await tx.execute(sql`${endOnboardings} and tenant_id = ${tenantId}`)
  return Number(rowCount)
}

/** Ends the tenant's onboardings, then deletes its row. Returns how many rows and onboardings there were. */
export async function removeTenant (tx: Transaction, tenantId: string): Promise<number> {
  const ended = await endTenantOnboardings(tx, tenantId)
  const { rowCount } = await tx.execute(sql`delete from tenant_configs where tenant_id = ${tenantId}`)
  return ended + Number(rowCount)
}

/** Ends all onboardings, then deletes every row. Returns how many rows there were; the caller rolls back when that is not what it expects. */
export async function removeAllTenants (tx: Transaction): Promise<number> {
  await tx.execute(sql`select count(*) from (select from tenant_configs order by id for update) locked`)
  await tx.execute(endOnboardings)
  const { rowCount } = await tx.execute(sql`delete from tenant_configs`)
  return Number(rowCount)
}
