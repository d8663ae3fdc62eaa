import { and, eq, getTableColumns, sql } from 'drizzle-orm'
import { phoneNumbers } from '../database/schema/tenant-configs.js'
import { builder, type Queryable } from '../database/statement.js'
import type { PhoneNumber } from '../meta/accounts.js'
import type { PreviousNumber } from './number-state.js'

/** The stored facts of a number, as Meta told them last, and its state. */
export type StoredNumber = Omit<PhoneNumber, 'id'> & PreviousNumber

/** Finds what is stored of a tenant's number. The lock of the tenant's row keeps it as it is. */
export async function findNumber (
  tx: Queryable, tenantId: string, phoneNumberId: string
): Promise<StoredNumber | undefined> {
  const { tenant_id, phone_number_id, told_at, ...stored } = getTableColumns(phoneNumbers)
  const [row] = await tx.run(builder.select(stored).from(phoneNumbers)
    .where(and(eq(tenant_id, tenantId), eq(phone_number_id, phoneNumberId))))
  return row
}

/** Stores what Meta told of a tenant's number, and its state. */
export async function saveNumber (
  tx: Queryable, tenantId: string, phoneNumberId: string, stored: StoredNumber
): Promise<void> {
  const values = { ...stored, phone_number_id: phoneNumberId, told_at: sql`now()` }
  await tx.run(builder.insert(phoneNumbers).values({ ...values, tenant_id: tenantId })
    .onConflictDoUpdate({ target: phoneNumbers.tenant_id, set: values }).returning())
}

/** Returns what Meta told of a number as PostgreSQL stores it: without NUL and lone surrogates. */
export function storableFacts ({ is_on_biz_app: isOnBizApp, ...facts }: PhoneNumber): Omit<PhoneNumber, 'id'> {
  return {
    display_phone_number: text(facts.display_phone_number),
    verified_name: text(facts.verified_name),
    is_on_biz_app: isOnBizApp,
    platform_type: text(facts.platform_type),
    quality_rating: text(facts.quality_rating),
    status: text(facts.status)
  }
}

function text (value: string | null): string | null {
  return value && Buffer.from(value.replaceAll('\0', '')).toString()
}
