import { and, asc, eq, exists, getTableColumns, inArray, lte, not, or, sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { deadStatuses, eventsOutbox, onboardings, tenantConfigs, tokenWatch, verifiedIdentities } from '../database/schema.js'
import { isVerified } from '../tenant-configs/verified-identities.sql.js'

const { placeholder } = sql

/** What the statements of a caller's transaction need of it. */
export type Transaction = Pick<NodePgDatabase, 'select' | 'update' | 'insert'>

/** When a token is due whose tenant is off, as the triggers set it too. */
const NEVER = '9999-12-31T00:00:00Z'
// While an app is blocked: how many due tokens are looked through for those of other apps, and how many of these are
// claimable. In the statement, so that PostgreSQL plans for few rows: a million tokens may be due.
const MAX_SEEN = 5000
const MAX_CLAIMABLE = 100

/** What is written of a token that was judged; times are ISO 8601. */
export type WatchUpdate = Pick<typeof tokenWatch.$inferSelect, 'status' | 'reason' | 'reported' | 'checked_at'> & { next_check_at: string | null }

/** The statements on `token_watch` that need no transaction. A `claim` is the `next_check_at` that a claiming statement gave. */
export function tokenWatchStatements (db: NodePgDatabase) {
  const isDead = inArray(tokenWatch.status, deadStatuses)
  const ofTenant = eq(tokenWatch.tenant_id, placeholder('tenant_id'))
  const ofClaim = and(ofTenant, eq(tokenWatch.next_check_at, placeholder('claim')))
  return {
    health: db.select({
      has_token: sql<boolean>`${tenantConfigs.access_token} is not null`,
      token_status: tokenWatch.status,
      reason: tokenWatch.reason,
      checked_at: tokenWatch.checked_at,
      token_expires_at: tenantConfigs.token_expires_at,
      // null for one that is off, of which the latest finding stays.
      next_check_at: sql<string | null>`case when ${tenantConfigs.is_active} then ${tokenWatch.next_check_at} end`
        .mapWith(tokenWatch.next_check_at)
    }).from(tenantConfigs).leftJoin(tokenWatch, eq(tokenWatch.tenant_id, tenantConfigs.tenant_id))
      .where(eq(tenantConfigs.tenant_id, placeholder('tenant_id'))).prepare('token_watch_health'),
    claim: claim(db, 'token_watch_claim', dueTokens(db)),
    claimUnblocked: claim(db, 'token_watch_claim_unblocked', unblockedTokens(db)),
    // Nothing, once another write or another claim has come between.
    claimed: db.select({ ...getTableColumns(tenantConfigs), is_verified: isVerifiedByToken, now: clock }).from(tokenWatch)
      .innerJoin(tenantConfigs, eq(tenantConfigs.tenant_id, tokenWatch.tenant_id)).leftJoin(verifiedIdentities, isVerified)
      .where(ofClaim).prepare('token_watch_claimed'),
    // For a row that was turned off without the triggers, or before they did this.
    park: db.update(tokenWatch).set({ next_check_at: NEVER }).where(and(ofClaim, exists(
      db.select({ id: tenantConfigs.id }).from(tenantConfigs)
        .where(and(eq(tenantConfigs.tenant_id, tokenWatch.tenant_id), not(tenantConfigs.is_active)))
    ))).prepare('token_watch_park'),
    sooner: db.update(tokenWatch).set({ next_check_at: sql`least(${tokenWatch.next_check_at}, ${later('wait')})` })
      .where(ofTenant).prepare('token_watch_sooner'),
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

// Whether the row's ids are verified, and by its present token.
const isVerifiedByToken = sql<boolean>`${tenantConfigs.last_verified_at} is not null and ${verifiedIdentities.tenant_id} is not null`

const isDue = lte(tokenWatch.next_check_at, sql`now()`)
const id = sql<string>`${tokenWatch.tenant_id}`.as('id')

/** Up to `limit` due tokens that nobody else claims at this moment. */
const dueTokens = (db: NodePgDatabase) => db.select({ id }).from(tokenWatch).where(isDue)
  .orderBy(asc(tokenWatch.next_check_at)).limit(placeholder('limit')).for('update', { skipLocked: true })

/**
 * The same without the tokens of `blocked` apps. A row without a pair of its own goes through the `platform` app ('' for none).
 * A token whose date has passed needs no call, and comes too.
 */
function unblockedTokens (db: NodePgDatabase) {
  const { fb_app_id, fb_app_secret, token_expires_at, tenant_id } = tenantConfigs
  const app = sql`coalesce(case when ${fb_app_secret} is not null then ${fb_app_id} end, ${placeholder('platform')}::text)`
  const isClaimable = or(sql`${app} <> all(${placeholder('blocked')}::text[])`, lte(token_expires_at, sql`now()`))
  const claimable = sql`(
    select seen.tenant_id from (
      select tenant_id, next_check_at from token_watch where next_check_at <= now()
      order by next_check_at limit ${sql.raw(String(MAX_SEEN))}
    ) as seen join ${tenantConfigs} on ${tenant_id} = seen.tenant_id where ${isClaimable}
    order by seen.next_check_at limit ${sql.raw(String(MAX_CLAIMABLE))})`
  return db.select({ id }).from(tokenWatch).where(and(isDue, inArray(tokenWatch.tenant_id, claimable)))
    .orderBy(asc(tokenWatch.next_check_at)).limit(placeholder('limit')).for('update', { skipLocked: true })
}

/** Takes tokens for `lease` milliseconds. */
function claim (db: NodePgDatabase, name: string, tokens: ReturnType<typeof dueTokens> | ReturnType<typeof unblockedTokens>) {
  const due = db.$with('due').as(tokens)
  return db.with(due).update(tokenWatch).set({ next_check_at: later('lease') }).from(due).where(eq(tokenWatch.tenant_id, due.id))
    .returning({ tenant_id: tokenWatch.tenant_id, claim: tokenWatch.next_check_at }).prepare(name)
}

/**
 * Locks a tenant's configuration, then its watch, as long as the stored token is still the one that is sealed as `held`.
 * Returns what is known of it, and the time of the database in Unix milliseconds; undefined when another token is stored, or none.
 * `next_check_at` is null for a tenant that is off.
 */
export async function lockWatch (tx: Transaction, tenantId: string, sealed: string) {
  const [config] = await tx.select({ expires_at: tenantConfigs.token_expires_at, is_active: tenantConfigs.is_active }).from(tenantConfigs)
    .where(and(eq(tenantConfigs.tenant_id, tenantId), eq(tenantConfigs.access_token, sealed))).for('no key update')
  if (config === undefined) return undefined
  // Behind the lock, so that of two findings the later one has the later time.
  const [watch] = await tx.select({ status: tokenWatch.status, reason: tokenWatch.reason, reported: tokenWatch.reported, checked_at: tokenWatch.checked_at, next_check_at: tokenWatch.next_check_at, now: clock })
    .from(tokenWatch).where(eq(tokenWatch.tenant_id, tenantId)).for('update')
  return watch && { ...config, ...watch, next_check_at: config.is_active ? watch.next_check_at : null }
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

/** Writes what was judged of a tenant's token; without a `next_check_at` it is not checked again. */
export async function saveWatch (tx: Transaction, tenantId: string, values: WatchUpdate): Promise<void> {
  await tx.update(tokenWatch).set({ ...values, next_check_at: values.next_check_at ?? NEVER }).where(eq(tokenWatch.tenant_id, tenantId))
}

/** Puts an event among those that wait to be delivered. */
export async function insertEvent (tx: Transaction, event: typeof eventsOutbox.$inferInsert): Promise<void> {
  await tx.insert(eventsOutbox).values(event)
}
