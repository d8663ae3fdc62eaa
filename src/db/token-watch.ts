import { and, asc, eq, getTableColumns, inArray, lte, sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { deadStatuses, eventsOutbox, onboardings, tenantConfigs, tokenWatch } from './schema.js'

const { placeholder } = sql

/** What the statements of a caller's transaction need of it. */
export type Transaction = Pick<NodePgDatabase, 'select' | 'update' | 'insert'>

/** What is written of a token that was judged; times are ISO 8601. */
export type Watched = Pick<typeof tokenWatch.$inferSelect, 'status' | 'reason' | 'reported' | 'checked_at' | 'next_check_at'>

/** The statements on `token_watch` that need no transaction. A `claim` is the `next_check_at` that a claiming statement gave. */
export function tokenWatchStatements (db: NodePgDatabase) {
  const isDead = inArray(tokenWatch.status, deadStatuses)
  const ofClaim = and(eq(tokenWatch.tenant_id, placeholder('tenant_id')), eq(tokenWatch.next_check_at, placeholder('claim')))
  return {
    health: db.select({
      token_status: tokenWatch.status,
      reason: tokenWatch.reason,
      checked_at: tokenWatch.checked_at,
      token_expires_at: tenantConfigs.token_expires_at,
      next_check_at: tokenWatch.next_check_at
    }).from(tenantConfigs).leftJoin(tokenWatch, eq(tokenWatch.tenant_id, tenantConfigs.tenant_id))
      .where(eq(tenantConfigs.tenant_id, placeholder('tenant_id'))).prepare('token_watch_health'),
    claim: claim(db),
    // Nothing, once another write or another claim has come between.
    claimed: db.select({ ...getTableColumns(tenantConfigs), now: clock }).from(tokenWatch)
      .innerJoin(tenantConfigs, eq(tenantConfigs.tenant_id, tokenWatch.tenant_id)).where(ofClaim).prepare('token_watch_claimed'),
    release: db.update(tokenWatch).set({ next_check_at: later('wait') }).where(ofClaim).prepare('token_watch_release'),
    // What is known of a dead token stays: as `unverified` it would pass for a new one, and be told again.
    unknown: db.update(tokenWatch).set({
      status: sql`case when ${isDead} then ${tokenWatch.status} else 'unverified' end`,
      reason: sql`case when ${isDead} then ${tokenWatch.reason} else ${placeholder('reason')} end`,
      next_check_at: later('wait')
    }).where(ofClaim).prepare('token_watch_unknown')
  }
}

// The clock of the database is the one that all instances share. In milliseconds.
const clock = sql<number>`(extract(epoch from clock_timestamp()) * 1000)::float8`
const later = (name: string) => sql`now() + ${placeholder(name)}::float8 * interval '1 millisecond'`

/** Takes up to `limit` due tokens for `lease` milliseconds, each away from whoever else looks for some. */
function claim (db: NodePgDatabase) {
  const due = db.$with('due').as(db.select({ id: sql<string>`${tokenWatch.tenant_id}`.as('id') }).from(tokenWatch).where(lte(tokenWatch.next_check_at, sql`now()`))
    .orderBy(asc(tokenWatch.next_check_at)).limit(placeholder('limit')).for('update', { skipLocked: true }))
  return db.with(due).update(tokenWatch).set({ next_check_at: later('lease') }).from(due).where(eq(tokenWatch.tenant_id, due.id))
    .returning({ tenant_id: tokenWatch.tenant_id, claim: tokenWatch.next_check_at }).prepare('token_watch_claim')
}

/**
 * Locks a tenant's configuration, then its watch, as long as the stored token is still the one that is sealed as `held`.
 * Returns what is known of it, and the time of the database in Unix milliseconds; undefined when another token is stored, or none.
 */
export async function lockWatch (tx: Transaction, tenantId: string, held: string) {
  const [config] = await tx.select({ expires_at: tenantConfigs.token_expires_at, is_active: tenantConfigs.is_active }).from(tenantConfigs)
    .where(and(eq(tenantConfigs.tenant_id, tenantId), eq(tenantConfigs.access_token, held))).for('no key update')
  if (config === undefined) return undefined
  // Behind the lock, so that of two findings the later one has the later time.
  const [watch] = await tx.select({ status: tokenWatch.status, reason: tokenWatch.reason, reported: tokenWatch.reported, checked_at: tokenWatch.checked_at, next_check_at: tokenWatch.next_check_at, now: clock })
    .from(tokenWatch).where(eq(tokenWatch.tenant_id, tenantId)).for('update')
  return watch && { ...config, ...watch }
}

/** Sets when the stored token expires (ISO 8601). A trigger makes the token due at once, so `saveWatch` comes after it. */
export async function setExpiry (tx: Transaction, tenantId: string, expiresAt: string | null): Promise<void> {
  await tx.update(tenantConfigs).set({ token_expires_at: expiresAt }).where(eq(tenantConfigs.tenant_id, tenantId))
}

/** Puts a sealed token in the place of the one sealed as `held`, also in an onboarding that stored it, which is told when it expires. A trigger makes it unverified. */
export async function replaceToken (tx: Transaction, tenantId: string, held: string, sealed: string, expiresAt: string | null): Promise<void> {
  await tx.update(tenantConfigs).set({ access_token: sealed }).where(eq(tenantConfigs.tenant_id, tenantId))
  await tx.update(onboardings).set({ access_token: sealed, token_expires_at: expiresAt }).where(and(eq(onboardings.tenant_id, tenantId), eq(onboardings.access_token, held)))
}

/** Writes what was judged of a tenant's token. */
export async function saveWatch (tx: Transaction, tenantId: string, values: Watched): Promise<void> {
  await tx.update(tokenWatch).set(values).where(eq(tokenWatch.tenant_id, tenantId))
}

/** Puts an event among those that wait to be delivered. */
export async function putEvent (tx: Transaction, event: typeof eventsOutbox.$inferInsert): Promise<void> {
  await tx.insert(eventsOutbox).values(event)
}
