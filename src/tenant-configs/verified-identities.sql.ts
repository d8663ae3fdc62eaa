import { and, eq, getTableColumns, ne, sql, type SQLWrapper } from 'drizzle-orm'
import { tenantConfigs, verifiedIdentities, type TenantConfigRow } from '../database/schema/tenant-configs.js'
import { builder, type Queryable } from '../database/statement.js'
import { isVerified } from '../database/verified-identity.js'
import type { TaggedRow } from './if-match.js'
import { tagged } from './tenant-configs.sql.js'

/** The account and number that Meta confirmed to a tenant's own token, which is sealed. */
export interface VerifiedIdentity extends Pick<TenantConfigRow, 'tenant_id' | 'access_token' | 'phone_number_id'> {
  waba_id: string
}

/** An identity that an onboarding verified, with its sealed token and the token's expiry (ISO 8601). */
export interface OnboardedIdentity {
  waba_id: string
  phone_number_id: string | null
  access_token: string
  token_expires_at: string | null
}

/** `changed`: the row no longer holds the identity. `taken`: another tenant with a verified token owns the number. */
export type VerifiedOutcome = 'saved' | 'changed' | 'taken'

/**
 * Marks the identity as verified now, in the caller's transaction. A former owner with an unverified token loses the
 * number, and is added to `changedTenants`. Writes nothing unless it returns `saved`.
 */
export async function saveVerifiedIdentity (
  tx: Queryable, identity: VerifiedIdentity, changedTenants: Set<string>
): Promise<VerifiedOutcome> {
  const { tenant_id, waba_id, access_token, phone_number_id } = identity
  const [own] = await tx.run(builder.select({ id: tenantConfigs.id }).from(tenantConfigs).where(and(
    eq(tenantConfigs.tenant_id, tenant_id),
    isNotDistinct(tenantConfigs.access_token, access_token),
    isNotDistinct(tenantConfigs.waba_id, waba_id),
    isNotDistinct(tenantConfigs.phone_number_id, phone_number_id)
  )).for('no key update'))
  if (own === undefined) return 'changed'

  const former = phone_number_id === null ? undefined : await lockOtherOwner(tx, tenant_id, phone_number_id)
  if (former !== undefined && former.last_verified_at !== null) return 'taken'
  if (former !== undefined) {
    changedTenants.add(former.tenant_id)
    await tx.run(builder.delete(verifiedIdentities)
      .where(eq(verifiedIdentities.tenant_id, former.tenant_id)).returning())
  }

  const id = { tenant_id: verifiedIdentities.tenant_id }
  const values = { tenant_id, waba_id, phone_number_id }
  // Waits for a concurrent verification of the number by another tenant, and inserts nothing after its commit.
  const inserted = await tx.run(builder.insert(verifiedIdentities).values(values).onConflictDoNothing().returning(id))
  if (inserted.length === 0) {
    const renewed = await tx.run(builder.update(verifiedIdentities)
      .set({ waba_id, phone_number_id, verified_at: sql`now()` })
      .where(eq(verifiedIdentities.tenant_id, tenant_id)).returning(id))
    if (renewed.length === 0) return 'taken'
  }
  await tx.run(sql`update tenant_configs set last_verified_at = now() where id = ${own.id}`)
  return 'saved'
}

/** The identity in a tenant's row, and whether Meta confirmed it. */
export interface LockedIdentity extends Pick<TenantConfigRow, 'waba_id' | 'phone_number_id' | 'access_token'> {
  is_verified: boolean
}

/** Locks a tenant's row, and returns its identity; null without a row. */
export async function lockIdentity (tx: Queryable, tenantId: string): Promise<LockedIdentity | null> {
  const { waba_id, phone_number_id, access_token, tenant_id } = tenantConfigs
  const is_verified = sql<boolean>`${verifiedIdentities.tenant_id} is not null`.as('is_verified')
  const [row] = await tx.run(builder.select({ waba_id, phone_number_id, access_token, is_verified })
    .from(tenantConfigs).leftJoin(verifiedIdentities, isVerified)
    .where(eq(tenant_id, tenantId)).for('update', { of: tenantConfigs }))
  return row ?? null
}

/** Returns the number that Meta confirmed for the tenant; null without one. */
export async function verifiedNumber (db: Queryable, tenantId: string): Promise<string | null> {
  const { tenant_id, phone_number_id } = verifiedIdentities
  const [row] = await db.run(builder.select({ phone_number_id }).from(verifiedIdentities)
    .where(eq(tenant_id, tenantId)))
  return row?.phone_number_id ?? null
}

/**
 * Locks the row of another tenant that owns the number, then its verified identity, in the order of its own
 * verification. The lock keeps `last_verified_at` as it is.
 */
async function lockOtherOwner (tx: Queryable, tenantId: string, phoneNumberId: string) {
  const { tenant_id, last_verified_at } = tenantConfigs
  const [owner] = await tx.run(builder.select({ tenant_id, last_verified_at }).from(tenantConfigs)
    .innerJoin(verifiedIdentities, eq(verifiedIdentities.tenant_id, tenant_id))
    .where(and(eq(verifiedIdentities.phone_number_id, phoneNumberId), ne(tenant_id, tenantId))).for('update'))
  return owner
}

/** Inserts or updates the row with an onboarded identity. The caller must call `saveVerifiedIdentity` next. */
export async function upsertIdentity (
  tx: Queryable, tenantId: string, userId: string | null, identity: OnboardedIdentity
): Promise<Array<TenantConfigRow & { created: boolean }>> {
  const values = { ...identity, onboarding_completed: false, last_verified_at: null }
  return await tx.run(builder.insert(tenantConfigs).values({ ...values, tenant_id: tenantId, user_id: userId })
    .onConflictDoUpdate({ target: tenantConfigs.tenant_id, set: values })
    // An inserted row has no older version, and so no xmax.
    .returning({ ...getTableColumns(tenantConfigs), created: sql<boolean>`xmax = 0`.as('created') }))
}

/** Marks the tenant as onboarded and activates it; returns no row when the row no longer holds this identity. */
export async function completeIdentity (
  tx: Queryable, tenantId: string, { waba_id, phone_number_id, access_token }: OnboardedIdentity
): Promise<TaggedRow[]> {
  return await tx.run(builder.update(tenantConfigs)
    .set({ is_active: true, onboarding_completed: true, onboarded_at: sql`now()`, last_verified_at: sql`now()` })
    .where(and(
      eq(tenantConfigs.tenant_id, tenantId),
      eq(tenantConfigs.access_token, access_token),
      eq(tenantConfigs.waba_id, waba_id),
      isNotDistinct(tenantConfigs.phone_number_id, phone_number_id)
    )).returning(tagged))
}

const isNotDistinct = (column: SQLWrapper, value: string | null) => sql`${column} is not distinct from ${value}`
