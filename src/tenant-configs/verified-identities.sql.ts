import { and, eq, ne, sql, type SQLWrapper } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { tenantConfigs, verifiedIdentities, type TenantConfigRow } from '../database/schema.js'

type Transaction = Pick<NodePgDatabase, 'select' | 'insert' | 'update' | 'delete'>

/** The account and number that Meta confirmed to a tenant's own token, which is sealed. */
export interface VerifiedIdentity extends Pick<TenantConfigRow, 'tenant_id' | 'access_token' | 'phone_number_id'> {
  waba_id: string
}

/** `changed`: the row no longer holds the identity. `taken`: another tenant with a verified token owns the number. */
export type VerifiedOutcome = 'saved' | 'changed' | 'taken'

/**
 * Marks the identity as verified now, in the caller's transaction. A tenant whose present token is unverified loses the
 * number to it, and is added to `changed`. Unless the outcome is `saved`, nothing was written.
 */
export async function saveVerifiedIdentity (
  tx: Transaction, identity: VerifiedIdentity, changedTenants: Set<string>
): Promise<VerifiedOutcome> {
  const { tenant_id, waba_id, access_token, phone_number_id } = identity
  const [own] = await tx.select({ id: tenantConfigs.id }).from(tenantConfigs).where(and(
    eq(tenantConfigs.tenant_id, tenant_id),
    isSame(tenantConfigs.access_token, access_token),
    isSame(tenantConfigs.waba_id, waba_id),
    isSame(tenantConfigs.phone_number_id, phone_number_id)
  )).for('no key update')
  if (own === undefined) return 'changed'

  const former = phone_number_id === null ? undefined : await lockOtherOwner(tx, tenant_id, phone_number_id)
  if (former !== undefined && former.last_verified_at !== null) return 'taken'
  if (former !== undefined) {
    changedTenants.add(former.tenant_id)
    await tx.delete(verifiedIdentities).where(eq(verifiedIdentities.tenant_id, former.tenant_id))
  }

  const id = { tenant_id: verifiedIdentities.tenant_id }
  const values = { tenant_id, waba_id, phone_number_id }
  // Waits for a tenant that verifies the number at this moment, and does nothing when that tenant owns it then.
  const inserted = await tx.insert(verifiedIdentities).values(values).onConflictDoNothing().returning(id)
  if (inserted.length === 0) {
    const renewed = await tx.update(verifiedIdentities).set({ waba_id, phone_number_id, verified_at: sql`now()` })
      .where(eq(verifiedIdentities.tenant_id, tenant_id)).returning(id)
    if (renewed.length === 0) return 'taken'
  }
  await tx.update(tenantConfigs).set({ last_verified_at: sql`now()` }).where(eq(tenantConfigs.id, own.id))
  return 'saved'
}

/**
 * Locks the row of another tenant that owns the number, then its verified identity: its own verification takes them in
 * this order. Whether its token is verified must not change meanwhile.
 */
async function lockOtherOwner (tx: Transaction, tenantId: string, phoneNumberId: string) {
  const { tenant_id, last_verified_at } = tenantConfigs
  const [owner] = await tx.select({ tenant_id, last_verified_at }).from(tenantConfigs)
    .innerJoin(verifiedIdentities, eq(verifiedIdentities.tenant_id, tenant_id))
    .where(and(eq(verifiedIdentities.phone_number_id, phoneNumberId), ne(tenant_id, tenantId))).for('update')
  return owner
}

/**
 * Joins a row of `tenant_configs` to its verified identity. The one condition behind both look-ups, the shared account
 * and the removal: an unverified claim joins to nothing.
 */
export const isVerified = sql`(
  ${verifiedIdentities.tenant_id} = ${tenantConfigs.tenant_id}
  and ${verifiedIdentities.waba_id} = ${tenantConfigs.waba_id}
  and ${verifiedIdentities.phone_number_id} is not distinct from ${tenantConfigs.phone_number_id}
)`

/** The verified numbers on an account, with their tenants. */
export const numbersOnAccount = (wabaId: string | null) => sql`
  select ${verifiedIdentities.tenant_id} from ${tenantConfigs} join ${verifiedIdentities} on ${isVerified}
  where ${verifiedIdentities.waba_id} = ${wabaId} and ${verifiedIdentities.phone_number_id} is not null`

const isSame = (column: SQLWrapper, value: string | null) => sql`${column} is not distinct from ${value}`
