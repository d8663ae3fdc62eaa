import { sql } from 'drizzle-orm'
import { verifiedIdentities, type TenantConfigRow } from '../database/schema.js'
import type { Queryable } from '../database/statement.js'
import { numbersOnAccount } from '../database/verified-identity.js'

/*
 * An onboarding that stores writes the configuration, then its own record, in one transaction. A removal takes the same locks
 * in the same order, which avoids deadlocks. To end the onboarding waits for that transaction, and only a later statement
 * sees what it has stored.
 */

const endOnboardings = sql`update onboardings set status = 'failed', access_token = null, holder = null
  where (status = 'in_progress' or holder is not null)`

/**
 * Ends the tenant's onboardings that may go on, or whose executor may yet come back with a token. Returns how many there
 * were.
 */
export async function endTenantOnboardings (tx: Queryable, tenantId: string): Promise<number> {
  await tx.run(sql`select from tenant_configs where tenant_id = ${tenantId} for update`)
  return await tx.count(sql`${endOnboardings} and tenant_id = ${tenantId}`)
}

/** Ends the tenant's onboardings, then deletes its row. Returns how many rows and onboardings there were. */
export async function removeTenant (tx: Queryable, tenantId: string): Promise<number> {
  const ended = await endTenantOnboardings(tx, tenantId)
  return ended + await tx.count(sql`delete from tenant_configs where tenant_id = ${tenantId}`)
}

/**
 * Ends all onboardings, then deletes every row. Returns how many rows there were; the caller rolls back when that is not what
 * it expects.
 */
export async function removeAllTenants (tx: Queryable): Promise<number> {
  await tx.run(sql`select count(*) from (select from tenant_configs order by id for update) locked`)
  await tx.run(endOnboardings)
  return await tx.count(sql`delete from tenant_configs`)
}

/**
 * The result of an offboarding: the row is `removed`; it is `kept`, since our app is on an account that is the tenant's alone,
 * or off one where a verified number of another tenant lives; or it is not the row that was read.
 */
export interface Removal { outcome: 'removed' | 'kept' | 'changed' }

type OffboardedRow = Pick<TenantConfigRow, 'id' | 'tenant_id' | 'waba_id' | 'access_token'>

/**
 * Deletes the row that was read, if it still holds the same account and token, and our app is where it should be: off the
 * account (`isOff`), or on it where a verified number of another tenant lives there. For a row without account or token there
 * is nothing to take off. It decides by the rows it has locked: of the last two tenants that leave at once, the second finds
 * itself alone. The row is locked before the verified identities, as a verification does.
 */
export const removeOffboardedQuery = ({ id, tenant_id, waba_id, access_token }: OffboardedRow, isOff: boolean) => sql<Removal>`
  with own as (
    select from tenant_configs where id = ${id} and waba_id = ${waba_id} and access_token = ${access_token} for update
  ),
  numbers as (
    ${numbersOnAccount(waba_id)} and exists (select from own)
    order by ${verifiedIdentities.tenant_id} for update of ${verifiedIdentities}
  ),
  gone as (
    delete from tenant_configs
    where id = ${id} and waba_id is not distinct from ${waba_id}
    and access_token is not distinct from ${access_token} and (
      waba_id is null or access_token is null or
      ${isOff}::boolean <> exists (select from numbers where numbers.tenant_id <> ${tenant_id})
    )
    returning id
  )
  select case when exists (select from gone) then 'removed'
    when exists (select from own) then 'kept' else 'changed' end as outcome`
