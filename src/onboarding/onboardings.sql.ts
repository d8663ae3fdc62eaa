import { and, desc, eq, isNotNull, lte, ne, or, sql, type SQL } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { onboardings as table, tenantConfigs, type OnboardingRow, type Step } from '../database/schema.js'

/** A database or a transaction in it. */
export type Db = Pick<NodePgDatabase, 'select' | 'insert' | 'update' | 'delete'>

/** What a record is made of. */
export type NewOnboarding = Pick<OnboardingRow, 'tenant_id' | 'user_id' | 'code_hash' | 'steps' | 'waba_id' | 'phone_number_id' | 'pin_given' | 'holder'>

/** What changes of a record while it is carried on. */
export type OnboardingChange = Partial<Pick<OnboardingRow, 'steps' | 'status' | 'waba_id' | 'phone_number_id' | 'pin_given' | 'access_token' | 'token_expires_at' | 'holder'>>

/** A record, and whether somebody carries it on at this moment. */
export type OnboardingState = OnboardingRow & { isLeased: boolean }

// Short, so that after a crash nobody waits long; renewed well before it ends.
const LEASE = sql`now() + interval '5 seconds'`
const isLeased = sql<boolean>`coalesce(${table.held_until} > now(), false)`
const firstStep = (member: SQL) => sql`${table.steps} -> 0 ${member}`

/** Makes the record of a code, held by its `holder`; null when the code has one. */
export async function insertOnboarding (db: Db, values: NewOnboarding): Promise<OnboardingRow | null> {
  const [row] = await db.insert(table).values({ ...values, held_until: LEASE }).onConflictDoNothing({ target: table.code_hash }).returning()
  return row ?? null
}

/** The record of a code, or null. */
export const onboardingOfCode = async (db: Db, codeHash: string) => await first(db, eq(table.code_hash, codeHash))

/** The record, or null. */
export const onboardingById = async (db: Db, id: string) => await first(db, eq(table.id, id))

/** The tenant's record that waits with a token, else the one that changed last; null when there is none. */
export const latestOnboarding = async (db: Db, tenantId: string) =>
  await first(db, eq(table.tenant_id, tenantId), sql`(${table.status} = 'in_progress' and ${table.access_token} is not null) desc`, desc(table.updated_at))

/** Takes a record up that nobody carries on; null when somebody does, or when it has ended. */
export async function acquireLease (db: Db, id: string, leaseOwner: string): Promise<OnboardingRow | null> {
  const [row] = await db.update(table).set({ holder: leaseOwner, held_until: LEASE })
    .where(and(eq(table.id, id), eq(table.status, 'in_progress'), sql`not ${isLeased}`)).returning()
  return row ?? null
}

/** Changes a record on behalf of its holder, who holds it on, and returns it; null when it is no longer the holder's. */
export async function updateOnboarding (db: Db, id: string, leaseOwner: string, change: OnboardingChange): Promise<OnboardingRow | null> {
  const [row] = await db.update(table).set({ ...change, held_until: change.holder === null ? null : LEASE })
    .where(and(eq(table.id, id), eq(table.holder, leaseOwner), eq(table.status, 'in_progress'))).returning()
  return row ?? null
}

/**
 * Keeps the granted token, also when somebody has given up on the holder meanwhile and called the outcome unknown: now it is
 * known. Returns the record; null when it has ended for another reason.
 */
export async function saveToken (db: Db, id: string, leaseOwner: string, change: OnboardingChange): Promise<OnboardingRow | null> {
  const isExchangeUnknown = and(eq(table.status, 'failed'), sql`${firstStep(sql`-> 'error' ->> 'code'`)} = 'META_EXCHANGE_UNKNOWN'`)
  const [row] = await db.update(table).set({ ...change, status: 'in_progress', held_until: LEASE })
    .where(and(eq(table.id, id), eq(table.holder, leaseOwner), or(isExchangeUnknown, eq(table.status, 'in_progress')))).returning()
  return row ?? null
}

/** Ends the tenant's records older than this one that may go on, or whose holder may yet come back with a token: their login is no longer the latest. */
export async function supersedeOlder (db: Db, { id, tenant_id: tenantId, created_at: createdAt }: OnboardingRow): Promise<void> {
  await db.update(table).set({ status: 'failed', access_token: null, holder: null }).where(and(
    eq(table.tenant_id, tenantId), ne(table.id, id), lte(table.created_at, createdAt), or(eq(table.status, 'in_progress'), isNotNull(table.holder))
  ))
}

/** Opens a completed record again, with the token that its configuration holds; null when that is no longer what the record proved. */
export async function reopenOnboarding (db: Db, id: string, steps: Step[]): Promise<OnboardingState | null> {
  const rows = await db.update(table)
    .set({ status: 'in_progress', steps, access_token: sql`${tenantConfigs.access_token}`, token_expires_at: sql`${tenantConfigs.token_expires_at}` })
    .from(tenantConfigs)
    .where(and(
      eq(table.id, id),
      eq(table.status, 'completed'),
      eq(tenantConfigs.tenant_id, table.tenant_id),
      eq(tenantConfigs.waba_id, table.waba_id),
      sql`${tenantConfigs.phone_number_id} is not distinct from ${table.phone_number_id}`,
      eq(tenantConfigs.onboarding_completed, true),
      eq(tenantConfigs.is_active, true)
    )).returning({ id: table.id })
  return rows.length > 0 ? await onboardingById(db, id) : null
}

/** Ends a record whose code was on its way to Meta when its holder vanished; false when there is none such. */
export async function failUnknownExchange (db: Db, id: string, steps: Step[]): Promise<boolean> {
  const rows = await db.update(table).set({ status: 'failed', steps })
    .where(and(eq(table.id, id), eq(table.status, 'in_progress'), sql`not ${isLeased}`, sql`${firstStep(sql`->> 'status'`)} = 'pending'`)).returning({ id: table.id })
  return rows.length > 0
}

async function first (db: Db, condition: SQL | undefined, ...order: SQL[]): Promise<OnboardingState | null> {
  const [found] = await db.select({ row: table, held: isLeased }).from(table).where(condition).orderBy(...order).limit(1)
  return found === undefined ? null : { ...found.row, isLeased: found.held }
}
