import { and, eq, isNull, sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { tenantConfigs as table, type TenantConfigRow } from './schema.js'

/** What was proven; the token is sealed. */
export type Proven = Pick<TenantConfigRow, 'tenant_id' | 'access_token' | 'waba_id' | 'phone_number_id'>

/** Writes down that an identity is proven now, if it is still the one that is stored. */
export async function saveProof (tx: Pick<NodePgDatabase, 'update'>, proven: Proven): Promise<void> {
  const isStill = (column: typeof table.access_token | typeof table.waba_id | typeof table.phone_number_id, value: string | null) =>
    value === null ? isNull(column) : eq(column, value)
  await tx.update(table).set({ last_verified_at: sql`now()` }).where(and(
    eq(table.tenant_id, proven.tenant_id),
    isStill(table.access_token, proven.access_token),
    isStill(table.waba_id, proven.waba_id),
    isStill(table.phone_number_id, proven.phone_number_id)
  ))
}
