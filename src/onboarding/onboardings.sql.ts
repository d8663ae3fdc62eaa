import { and, desc, eq, getTableColumns, isNotNull, lte, ne, or, sql, type SQL } from 'drizzle-orm'
import { onboardings as table, type OnboardingRow, type Step } from '../database/schema/onboardings.js'
import { tenantConfigs } from '../database/schema/tenant-configs.js'
import { builder, type Queryable } from '../database/statement.js'

/** The values of a new record. */
export type NewOnboarding = Pick<
  OnboardingRow,
  'tenant_id' | 'user_id' | 'code_hash' | 'steps' | 'waba_id' | 'phone_number_id' | 'pin_given' | 'holder' | 'former'
>

/** The values of a record that its executor changes. */
export type OnboardingChange = Partial<Pick<
    OnboardingRow,
  'steps' | 'status' | 'waba_id' | 'phone_number_id' | 'pin_given' | 'access_token' | 'token_expires_at' | 'holder' |
  'chosen_waba_id' | 'chosen_phone_number_id' | 'former'
>>

/** A record, and whether a process executes it at this moment. */
export type OnboardingState = OnboardingRow & { isLeased: boolean }

/** Onboardings of a tenant that are kept, at most. */
const MAX_ONBOARDINGS = 20
/** Surplus rows that one request deletes, at most. */
const MAX_SURPLUS = 100

// Short, for after a crash requests wait until it ends. The executor renews it.
const LEASE = sql`now() + interval '5 seconds'`
// A request of the tenant comes first, and the retries before it are at least as far apart.
const RETRY_AFTER = sql`interval '10 seconds'`
const MAX_RETRY_DELAY = sql`interval '1 hour'`
/** How long an onboarding is retried after its first fault. */
const MAX_RETRY_TIME = sql`interval '24 hours'`
// Longer than an executor retries to save a granted token.
const LOST_EXCHANGE_AGE = sql`interval '2 minutes'`
const isLeased = sql<boolean>`coalesce(${table.held_until} > now(), false)`
const firstStep = (member: SQL) => sql`${table.steps} -> 0 ${member}`

/** Inserts the record of a code, leased to its `holder`; null when the code has one. */
export async function insertOnboarding (db: Queryable, values: NewOnboarding): Promise<OnboardingRow | null> {
  const [row] = await db.run(builder.insert(table).values({ ...values, held_until: LEASE })
    .onConflictDoNothing({ target: table.code_hash }).returning())
  return row ?? null
}

/** The record of a code, or null. */
export const onboardingOfCode = async (db: Queryable, codeHash: string) =>
  await first(db, eq(table.code_hash, codeHash))

/** The record, or null. */
export const onboardingById = async (db: Queryable, id: string) => await first(db, eq(table.id, id))

/** The tenant's record that waits with a token, else the one that changed last; null when there is none. */
export const latestOnboarding = async (db: Queryable, tenantId: string) => {
  const isWaiting = sql`(${table.status} = 'in_progress' and ${table.access_token} is not null) desc`
  return await first(db, eq(table.tenant_id, tenantId), isWaiting, desc(table.updated_at))
}

/**
 * Leases an unfinished record that no process executes, for a request; null when one does, or when it has ended. Later
 * faults count from then on.
 */
export async function acquireLease (db: Queryable, id: string, leaseOwner: string): Promise<OnboardingRow | null> {
  const values = { holder: leaseOwner, held_until: LEASE, retry_at: null, failing_since: null }
  const [row] = await db.run(builder.update(table).set(values)
    .where(and(eq(table.id, id), eq(table.status, 'in_progress'), sql`not ${isLeased}`)).returning())
  return row ?? null
}

/** A record with a token that is retried without a request, and whether it has been retried long enough. */
export type DueOnboarding = OnboardingRow & { isOverdue: boolean }

/**
 * Leases a record with a token whose last fault was passing, or whose executor died; null when none is due. Records
 * that another process is leasing are skipped.
 */
export async function acquireDue (db: Queryable, leaseOwner: string): Promise<DueOnboarding | null> {
  const since = sql`coalesce(${table.failing_since}, ${table.held_until})`
  const isDue = sql`coalesce(retry_at, held_until) <= now()
    and (retry_at is not null or held_until <= now() - ${RETRY_AFTER})`
  const due = sql`(select id from onboardings where status = 'in_progress' and access_token is not null and ${isDue}
    and coalesce(held_until <= now(), true) order by coalesce(retry_at, held_until) limit 1 for update skip locked)`
  const isOverdue = sql<boolean>`coalesce(failing_since <= now() - ${MAX_RETRY_TIME}, false)`
  const [row] = await db.run(builder.update(table)
    .set({ holder: leaseOwner, held_until: LEASE, retry_at: null, failing_since: since })
    .where(sql`${table.id} = ${due}`).returning({ ...getTableColumns(table), isOverdue: isOverdue.as('isOverdue') }))
  return row ?? null
}

/**
 * Releases a record after a passing fault, and sets its next retry: after the time since the first fault, from 10
 * seconds to an hour, but not before `delayMs`.
 */
export async function postponeOnboarding (
  db: Queryable, id: string, leaseOwner: string, steps: Step[], delayMs: number
): Promise<OnboardingRow | null> {
  const since = sql`coalesce(${table.failing_since}, now())`
  const backoff = sql`least(greatest(now() - ${since}, ${RETRY_AFTER}), ${MAX_RETRY_DELAY})`
  const delay = sql`greatest(${backoff}, ${delayMs}::float8 * interval '1 millisecond')`
  const [row] = await db.run(builder.update(table)
    .set({
      steps,
      holder: null,
      held_until: null,
      failing_since: since,
      retry_at: sql`least(now() + ${delay}, ${since} + ${MAX_RETRY_TIME})`
    })
    .where(and(eq(table.id, id), eq(table.holder, leaseOwner), eq(table.status, 'in_progress'))).returning())
  return row ?? null
}

/** Returns records whose executor died while the code was on its way to Meta. */
export async function lostExchanges (db: Queryable): Promise<OnboardingRow[]> {
  const isSent = sql`${firstStep(sql`->> 'attempts'`)} <> '0'`
  return await db.run(builder.select().from(table).where(sql`status = 'in_progress' and access_token is null
    and ${isSent} and coalesce(retry_at, held_until) <= now() - ${LOST_EXCHANGE_AGE}`).limit(MAX_SURPLUS))
}

/**
 * Changes a record for its lease owner, renews the lease, and returns the record; null when the lease is lost. A change
 * of `holder` to null releases it.
 */
export async function updateOnboarding (
  db: Queryable, id: string, leaseOwner: string, change: OnboardingChange
): Promise<OnboardingRow | null> {
  const [row] = await db.run(builder.update(table).set({ ...change, held_until: change.holder === null ? null : LEASE })
    .where(and(eq(table.id, id), eq(table.holder, leaseOwner), eq(table.status, 'in_progress'))).returning())
  return row ?? null
}

/**
 * Saves the granted token, also when another process has failed the exchange as unknown meanwhile. Returns the record;
 * null when it has ended for another reason.
 */
export async function saveToken (
  db: Queryable, id: string, leaseOwner: string, change: OnboardingChange
): Promise<OnboardingRow | null> {
  const isExchangeUnknown = and(
    eq(table.status, 'failed'), sql`${firstStep(sql`-> 'error' ->> 'code'`)} = 'META_EXCHANGE_UNKNOWN'`
  )
  const [row] = await db.run(builder.update(table).set({ ...change, status: 'in_progress', held_until: LEASE })
    .where(and(
      eq(table.id, id), eq(table.holder, leaseOwner), or(isExchangeUnknown, eq(table.status, 'in_progress'))
    )).returning())
  return row ?? null
}

/**
 * Ends the tenant's older records that are unfinished, or whose executor may still save a token: their login is no
 * longer the latest.
 */
export async function supersedeOlder (
  db: Queryable, { id, tenant_id: tenantId, created_at: createdAt }: OnboardingRow
): Promise<void> {
  const isUnfinished = or(eq(table.status, 'in_progress'), isNotNull(table.holder))
  await db.run(builder.update(table).set({ status: 'failed', access_token: null, former: null, holder: null })
    .where(and(eq(table.tenant_id, tenantId), ne(table.id, id), lte(table.created_at, createdAt), isUnfinished))
    .returning())
}

/**
 * Reopens a completed record with the token of its configuration; null when the configuration has changed since.
 */
export async function reopenOnboarding (db: Queryable, id: string, steps: Step[]): Promise<OnboardingState | null> {
  const rows = await db.run(builder.update(table)
    .set({
      status: 'in_progress',
      steps,
      access_token: sql`${tenantConfigs.access_token}`,
      token_expires_at: sql`${tenantConfigs.token_expires_at}`
    })
    .from(tenantConfigs)
    .where(and(
      eq(table.id, id),
      eq(table.status, 'completed'),
      eq(tenantConfigs.tenant_id, table.tenant_id),
      eq(tenantConfigs.waba_id, table.waba_id),
      sql`${tenantConfigs.phone_number_id} is not distinct from ${table.phone_number_id}`,
      eq(tenantConfigs.onboarding_completed, true),
      eq(tenantConfigs.is_active, true)
    )).returning({ id: table.id }))
  return rows.length > 0 ? await onboardingById(db, id) : null
}

/** Fails a record whose executor died while the code was on its way to Meta. Returns false for any other record. */
export async function failUnknownExchange (db: Queryable, id: string, steps: Step[]): Promise<boolean> {
  const isPending = sql`${firstStep(sql`->> 'status'`)} = 'pending'`
  const rows = await db.run(builder.update(table).set({ status: 'failed', steps, former: null })
    .where(and(eq(table.id, id), eq(table.status, 'in_progress'), sql`not ${isLeased}`, isPending))
    .returning({ id: table.id }))
  return rows.length > 0
}

/**
 * Deletes the tenant's onboardings beyond the newest 20, but none that waits with a token or may still be executed. The
 * inner query locks no row, for a lock would change what `offset` counts.
 */
export async function deleteSurplusOnboardings (db: Queryable, tenantId: string): Promise<void> {
  await db.run(sql`delete from onboardings where id = any(array(
    select id from onboardings where id = any(array(
      select id from onboardings where tenant_id = ${tenantId}
      order by created_at desc, id offset ${MAX_ONBOARDINGS} limit ${MAX_SURPLUS}))
    and holder is null and not (status = 'in_progress' and access_token is not null) for update skip locked))`)
}

async function first (
  db: Queryable, condition: SQL | undefined, ...order: SQL[]
): Promise<OnboardingState | null> {
  const fields = { ...getTableColumns(table), isLeased: isLeased.as('isLeased') }
  const [record] = await db.run(builder.select(fields).from(table).where(condition).orderBy(...order).limit(1))
  return record ?? null
}
