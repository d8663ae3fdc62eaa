import { and, eq, gt, sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { oauthStates as table } from '../database/schema.js'

type Db = Pick<NodePgDatabase, 'insert' | 'delete'>

/** Whose state it is. */
export interface StateOwner { tenantId: string, userId: string | null }

/** Keeps a state for 10 minutes. Returns when this one expires (ISO 8601 UTC). */
export async function insertState (db: Db, stateHash: string, { tenantId, userId }: StateOwner): Promise<string[]> {
  const rows = await db.insert(table)
    .values({ state_hash: stateHash, tenant_id: tenantId, user_id: userId, expires_at: sql`now() + interval '10 minutes'` })
    .returning({ expires_at: table.expires_at })
  return rows.map(({ expires_at: at }) => at)
}

/** Uses a state up. Says whether it was there, not expired and the owner's: that is true once. */
export async function consumeState (db: Db, stateHash: string, { tenantId, userId }: StateOwner): Promise<boolean> {
  const rows = await db.delete(table).where(and(
    eq(table.state_hash, stateHash),
    eq(table.tenant_id, tenantId),
    sql`${table.user_id} is not distinct from ${userId}`,
    gt(table.expires_at, sql`now()`)
  )).returning({ state_hash: table.state_hash })
  return rows.length > 0
}
