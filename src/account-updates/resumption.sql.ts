import { sql } from 'drizzle-orm'
import { accountStates, tenantConfigs, type TenantConfigRow } from '../database/schema/tenant-configs.js'
import type { Queryable } from '../database/statement.js'

/** A claimed resumption. `claim` is the `resume_at` that the claim set: the claim holds while it is unchanged. */
export interface Claim { tenant_id: string, claim: string }

/** The configuration of a claimed tenant, and the event that asks for its resumption. */
export type ClaimedRow = TenantConfigRow & { account_event: string | null }

/** A checked identity; its token is sealed. */
export type CheckedIdentity = Pick<TenantConfigRow, 'phone_number_id'> & { waba_id: string, access_token: string }

const isClaimed = ({ tenant_id, claim }: Claim) =>
  sql`${accountStates.tenant_id} = ${tenant_id} and ${accountStates.resume_at} = ${claim}`
const later = (ms: number) => sql`now() + ${ms}::float8 * interval '1 millisecond'`

/** Claims up to `limit` due resumptions for `lease` milliseconds, without those that another process is claiming. */
export const claimQuery = (limit: number, lease: number) => sql<Claim>`
  update account_states set resume_at = ${later(lease)} where tenant_id = any(array(
    select tenant_id from account_states where resume_at <= now()
    order by resume_at limit ${limit} for update skip locked))
  returning tenant_id, resume_at as claim`

/** Reads the row of a claimed tenant; none once the claim is lost, or it is not to be resumed any more. */
export const claimedQuery = (claim: Claim) => sql<ClaimedRow>`
  select tenant_configs.*, ${accountStates.event} as account_event
  from ${tenantConfigs} join ${accountStates} using (tenant_id)
  where ${isClaimed(claim)} and status = 'suspended' and turned_off and not is_active`

/** Releases a claim: the resumption is due in `wait` milliseconds. */
export const postponeQuery = (claim: Claim, wait: number) => sql`
  update account_states set resume_at = ${later(wait)} where ${isClaimed(claim)}`

/** Ends a claim: the tenant stays suspended. */
export const refuseQuery = (claim: Claim) => sql`
  update account_states set resume_at = null where ${isClaimed(claim)}`

/**
 * Turns a claimed tenant on, unless a person turned it on or off meanwhile, another update counted, or it has another
 * identity. A trigger ends the claim. Returns whether it was turned on.
 */
export async function turnOn (tx: Queryable, claim: Claim, identity: CheckedIdentity): Promise<boolean> {
  const isSame = sql`tenant_id = ${claim.tenant_id} and access_token = ${identity.access_token}
    and waba_id = ${identity.waba_id} and phone_number_id is not distinct from ${identity.phone_number_id}`
  await tx.run(sql`select from tenant_configs where ${isSame} for update`)
  // A separate statement sees all that was committed while the first one waited for its lock.
  return await tx.count(sql`
    update tenant_configs set is_active = true where ${isSame} and not is_active and exists (
      select from account_states where ${isClaimed(claim)} and status = 'suspended' and turned_off)`) > 0
}
