import { sql } from 'drizzle-orm'
import type { Queryable } from '../database/statement.js'
import type { PhoneNumber } from '../meta/accounts.js'
import type { NextNumber, PreviousNumber } from './number-state.js'

/** Locks the state of a tenant's number; undefined when nothing is known of this number. */
export async function lockNumber (
  tx: Queryable, tenantId: string, phoneNumberId: string
): Promise<PreviousNumber | undefined> {
  const [row] = await tx.run(sql<PreviousNumber>`select number_status, reported from phone_numbers
    where tenant_id = ${tenantId} and phone_number_id = ${phoneNumberId} for update`)
  return row
}

/** Stores what Meta told about a number (null: the account does not have it, earlier facts stay), and its state. */
export async function saveNumber (
  tx: Queryable, tenantId: string, phoneNumberId: string, phone: PhoneNumber | null, next: NextNumber
): Promise<void> {
  const { number_status: status, reported } = next
  const facts = phone === null
    ? sql``
    : sql`, display_phone_number = excluded.display_phone_number, verified_name = excluded.verified_name,
        is_on_biz_app = excluded.is_on_biz_app, platform_type = excluded.platform_type,
        quality_rating = excluded.quality_rating, status = excluded.status`
  await tx.run(sql`
    insert into phone_numbers (tenant_id, phone_number_id, display_phone_number, verified_name, is_on_biz_app,
      platform_type, quality_rating, status, number_status, reported)
    values (${tenantId}, ${phoneNumberId}, ${text(phone?.display_phone_number)}, ${text(phone?.verified_name)},
      ${phone?.is_on_biz_app ?? null}, ${text(phone?.platform_type)}, ${text(phone?.quality_rating)},
      ${text(phone?.status)}, ${status}, ${reported})
    on conflict (tenant_id) do update set phone_number_id = excluded.phone_number_id,
      number_status = excluded.number_status, reported = excluded.reported, told_at = now() ${facts}`)
}

/** Removes NUL and replaces lone surrogates: PostgreSQL stores neither. */
function text (value: string | null | undefined): string | null {
  return value == null ? null : Buffer.from(value.replaceAll('\0', '')).toString()
}
