import { and, eq, getTableColumns, sql } from 'drizzle-orm'
import type { Db } from '../onboarding/onboardings.sql.js'
import { tenantConfigs as table, type TenantConfigRow } from '../database/schema.js'

/** What Meta proved of a tenant, its token sealed. */
export interface OnboardedIdentity {
  waba_id: string
  phone_number_id: string | null
  access_token: string
  token_expires_at: string | null
}

/** Stores the identity in a new row or over the one there is; `created` tells which. `saveVerifiedIdentity` is to follow. */
export async function upsertIdentity (db: Db, tenantId: string, userId: string | null, identity: OnboardedIdentity): Promise<Array<TenantConfigRow & { created: boolean }>> {
  const values = { ...identity, onboarding_completed: false, last_verified_at: null }
  return await db.insert(table).values({ ...values, tenant_id: tenantId, user_id: userId })
    .onConflictDoUpdate({ target: table.tenant_id, set: values })
    // A row that an insert made has no older version, and so no xmax.
    .returning({ ...getTableColumns(table), created: sql<boolean>`xmax = 0` })
}

/** Marks the tenant as onboarded and activates it, if its row still holds this identity; returns the row then, and none otherwise. */
export async function completeIdentity (db: Db, tenantId: string, { waba_id, phone_number_id, access_token }: Omit<OnboardedIdentity, 'token_expires_at'>): Promise<TenantConfigRow[]> {
  return await db.update(table)
    .set({ is_active: true, onboarding_completed: true, onboarded_at: sql`now()`, last_verified_at: sql`now()` })
    .where(and(
      eq(table.tenant_id, tenantId),
      eq(table.access_token, access_token),
      eq(table.waba_id, waba_id),
      sql`${table.phone_number_id} is not distinct from ${phone_number_id}`
    )).returning()
}
