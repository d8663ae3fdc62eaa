import { and, desc, eq, getTableColumns, isNotNull, lte, ne, or, sql, type SQL } from 'drizzle-orm'
import { onboardings as table, tenantConfigs, type OnboardingRow, type Step } from '../database/schema.js'
import { builder, type Queryable } from '../database/statement.js'

/** The values of a new record. */
export type NewOnboarding = Pick<
  OnboardingRow,
  'tenant_id' | 'user_id' | 'code_hash' | 'steps' | 'waba_id' | 'phone_number_id' | 'pin_given' | 'holder'
>

/** The values of a record that its executor changes. */
export type OnboardingChange = Partial<Pick<
    OnboardingRow,
  'steps' | 'status' | 'waba_id' | 'phone_number_id' | 'pin_given' | 'access_token' | 'token_expires_at' | 'holder'

>>

/** A record, and whether a process executes it at this moment. */
export type OnboardingState = OnboardingRow & { isLeased: boolean }

/** Onboardings of a tenant that are kept, at most. */
const MAX_ONBOARDINGS = 20
/** Surplus rows that one request deletes, at most. */
const MAX_SURPLUS = 100

// Short, for after a crash requests wait until it ends. The executor renews it.
const LEASE = sql`now() + interval '5 seconds'`
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

/** Leases an unfinished record that no process executes; null when one does, or when it has ended. */
export async function acquireLease (db: Queryable, id: string, leaseOwner: string): Promise<OnboardingRow | null> {
  const [row] = await db.run(builder.update(table).set({ holder: leaseOwner, held_until: LEASE })
    .where(and(eq(table.id, id), eq(table.status, 'in_progress'), sql`not ${isLeased}`)).returning())
  return row ?? null
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
  await db.run(builder.update(table).set({ status: 'failed', access_token: null, holder: null })
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
  const rows = await db.run(builder.update(table).set({ status: 'failed', steps })
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
