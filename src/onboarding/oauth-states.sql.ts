import { sql } from 'drizzle-orm'
import type { Queryable } from '../database/statement.js'

/** The tenant and the user that a state belongs to. */
export interface StateOwner { tenantId: string, userId: string | null }

/** Open logins of a tenant, at most. */
const MAX_STATES = 20
/** Surplus rows that one request deletes, at most. */
const MAX_SURPLUS = 100

/** Stores a state for 10 minutes. Returns when it expires (ISO 8601 UTC). */
export async function insertState (
  db: Queryable, stateHash: string, { tenantId, userId }: StateOwner
): Promise<string | undefined> {
  const [state] = await db.run(sql<{ expires_at: string }>`
    insert into oauth_states (state_hash, tenant_id, user_id, expires_at)
    values (${stateHash}, ${tenantId}, ${userId}, now() + interval '10 minutes') returning expires_at`)
  return state?.expires_at
}

/** Deletes a state. Returns whether it existed, was not expired and was the owner's. */
export async function consumeState (
  db: Queryable, stateHash: string, { tenantId, userId }: StateOwner
): Promise<boolean> {
  return await db.count(sql`
    delete from oauth_states where state_hash = ${stateHash} and tenant_id = ${tenantId}
    and user_id is not distinct from ${userId} and expires_at > now()`) > 0
}

/**
 * Deletes the tenant's logins beyond the newest 20. It runs after the commit of the newest: of several at once, the
 * last one sees all. The inner query locks no row, for a lock would change what `offset` counts.
 */
export async function deleteSurplusStates (db: Queryable, tenantId: string): Promise<void> {
  await db.run(sql`delete from oauth_states where state_hash = any(array(
    select state_hash from oauth_states where state_hash = any(array(
      select state_hash from oauth_states where tenant_id = ${tenantId}
      order by expires_at desc, state_hash offset ${MAX_STATES} limit ${MAX_SURPLUS}))
    for update skip locked))`)
}
