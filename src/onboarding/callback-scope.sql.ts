import { eq, sql } from 'drizzle-orm'
import type { Db } from './onboardings.sql.js'
import { phoneCallbacks } from '../database/schema.js'
import { numbersOnAccount, type VerifiedIdentity } from '../tenant-configs/verified-identities.sql.js'

/**
 * Where the callback of a tenant may be set. `is_shared`: a verified number of another tenant lives on its account.
 * `has_own`: its number has a callback of its own at Meta, whichever tenant set it.
 */
export interface CallbackScope extends Record<string, unknown> { is_shared: boolean, has_own: boolean }

type Ids = Omit<VerifiedIdentity, 'access_token'>

/** Answers one row, a `CallbackGround`. */
export const callbackScopeQuery = ({ tenant_id, waba_id, phone_number_id }: Ids) => sql`
  select
    exists (select from (${numbersOnAccount(waba_id)}) as number where number.tenant_id <> ${tenant_id}) as is_shared,
    exists (select from ${phoneCallbacks} where ${phoneCallbacks.phone_number_id} = ${phone_number_id}) as has_own`

/** Records whether the number has a callback of its own at Meta. */
export async function savePhoneCallback (db: Db, phoneNumberId: string, hasOwn: boolean): Promise<void> {
  if (hasOwn) await db.insert(phoneCallbacks).values({ phone_number_id: phoneNumberId }).onConflictDoNothing()
  else await db.delete(phoneCallbacks).where(eq(phoneCallbacks.phone_number_id, phoneNumberId))
}
