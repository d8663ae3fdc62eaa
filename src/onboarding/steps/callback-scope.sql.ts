import { sql } from 'drizzle-orm'
import type { Queryable } from '../../database/statement.js'
import { numbersOnAccount } from '../../database/verified-identity.js'

/** The account and number of a tenant. */
export interface TenantNumber { tenant_id: string, waba_id: string, phone_number_id: string | null }

/**
 * Decides where the callback of a tenant may be set. `is_shared`: its account has a verified number of another tenant.
 * `has_own`: its number has a callback of its own at Meta, set by any tenant.
 */
export interface CallbackScope { is_shared: boolean, has_own: boolean }

/** Returns one row. */
export const callbackScopeQuery = ({ tenant_id, waba_id, phone_number_id }: TenantNumber) => sql<CallbackScope>`
  select
    exists (select from (${numbersOnAccount(waba_id)}) as number where number.tenant_id <> ${tenant_id}) as is_shared,
    exists (select from phone_callbacks where phone_number_id = ${phone_number_id}) as has_own`

/** Stores whether the number has a callback of its own at Meta. */
export async function savePhoneCallback (db: Queryable, phoneNumberId: string, hasOwn: boolean): Promise<void> {
  await db.run(hasOwn
    ? sql`insert into phone_callbacks (phone_number_id) values (${phoneNumberId}) on conflict do nothing`
    : sql`delete from phone_callbacks where phone_number_id = ${phoneNumberId}`)
}
