import { sql } from 'drizzle-orm'
import type { Queryable } from '../database/statement.js'

/** The tenant and the user that a state belongs to. */
export interface StateOwner { tenantId: string, userId: string | null }

/** How many open logins a tenant has at most. */
const MAX_STATES = 20
/** How many rows of a tenant one request looks at to delete those beyond the limit. */
const MAX_SURPLUS = 100

/** Keeps a state for 10 minutes. Returns when it expires (ISO 8601 UTC). */
export async function insertState (
  db: Queryable, stateHash: string, { tenantId, userId }: StateOwner
): Promise<string | undefined> {
  const [state] = await db.run(sql<{ expires_at: string }>`
    insert into oauth_states (state_hash, tenant_id, user_id, expires_at)
    values (${stateHash}, ${tenantId}, ${userId}, now() + interval '10 minutes') returning expires_at`)
  return state?.expires_at
}

/** Uses a state up. Says whether it was there, not expired and the owner's: that is true once. */
export async function consumeState (
  db: Queryable, stateHash: string, { tenantId, userId }: StateOwner
): Promise<boolean> {
  return await db.count(sql`
    delete from oauth_states where state_hash = ${stateHash} and tenant_id = ${tenantId}
    and user_id is not distinct from ${userId} and expires_at > now()`) > 0
}

/**
 * Deletes the tenant's oldest logins beyond the newest 20. Call it after the newest one is committed: of calls at once, the
 * last one sees all. The inner query finds them: to lock a row in it would change what `offset` counts.
 */
export async function deleteSurplusStates (db: Queryable, tenantId: string): Promise<void> {
  await db.run(sql`delete from oauth_states where state_hash = any(array(
    select state_hash from oauth_states where state_hash = any(array(
      select state_hash from oauth_states where tenant_id = ${tenantId}
      order by expires_at desc, state_hash offset ${MAX_STATES} limit ${MAX_SURPLUS}))
    for update skip locked))`)
}
