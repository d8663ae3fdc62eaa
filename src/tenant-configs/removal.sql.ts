import { sql } from 'drizzle-orm'
import { tenantConfigs, verifiedIdentities, type TenantConfigRow } from '../database/schema/tenant-configs.js'
import { onlyRow, type Queryable } from '../database/statement.js'
import { numbersOnAccount } from '../database/verified-identity.js'
import { assertMatch, tagsOf, type IfMatch, type TaggedRow, type WriteTerms } from './if-match.js'
import { etag, isAmong } from './tenant-configs.sql.js'

/*
 * The step `store` of an onboarding writes the configuration, then its own record, in one transaction. A removal takes
 * the same locks in the same order, which avoids deadlocks. The update that ends the onboardings waits for that
 * transaction; only a later statement sees the rows that it stored.
 */

/** The rows that one statement deletes, and makes versions of. */
const PAGE = 10_000
const BEFORE_ANY_ID = -(2 ** 31)

const endOnboardings = sql`update onboardings set status = 'failed', access_token = null, former = null,
  holder = null
  where (status = 'in_progress' or holder is not null)`

/**
 * Ends the tenant's unfinished and leased onboardings: a lease owner may still get a token. Returns their number.
 *
 * @throws as `assertMatch`
 */
export async function endTenantOnboardings (tx: Queryable, tenantId: string, ifMatch: IfMatch): Promise<number> {
  // The lock keeps the version of the row until the caller's transaction ends.
  const [row] = await tx.run(sql<Pick<TaggedRow, 'etag'>>`
    select ${etag} as etag from ${tenantConfigs} where tenant_id = ${tenantId} for update`)
  assertMatch(row, ifMatch)
  return await tx.count(sql`${endOnboardings} and tenant_id = ${tenantId}`)
}

export interface RemovalTerms extends WriteTerms {
  /** Whether to delete the former states too. */
  purge?: boolean
}

/**
 * Ends the tenant's onboardings, then deletes its row, and with `purge` its former states. Returns the number of all it
 * has ended or deleted.
 *
 * @throws as `assertMatch`
 */
export async function removeTenant (
  tx: Queryable, tenantId: string, { ifMatch, purge = false }: RemovalTerms
): Promise<number> {
  const ended = await endTenantOnboardings(tx, tenantId, ifMatch)
  // Before the row too: a restoration that recreates the row holds the lock of its version.
  const purged = purge ? await purgeVersions(tx, tenantId) : 0
  const removed = await tx.count(sql`delete from tenant_configs where tenant_id = ${tenantId}`)
  // The version that the deletion made.
  if (purge) await purgeVersions(tx, tenantId)
  return ended + purged + removed
}

/** Deletes all versions of a tenant. Returns their number. */
export async function purgeVersions (tx: Queryable, tenantId: string): Promise<number> {
  return await tx.count(sql`delete from tenant_config_versions where tenant_id = ${tenantId}`)
}

/**
 * Ends all onboardings, then deletes all rows.
 *
 * @returns the number of rows, and the id under which their versions can be restored
 */
export async function removeAllTenants (tx: Queryable): Promise<{ count: number, batch_id: string }> {
  await tx.run(sql`select count(*) from (select from tenant_configs order by id for update) locked`)
  await tx.run(endOnboardings)
  const { batch_id } = onlyRow(await tx.run(sql<{ batch_id: string }>`
    select set_config('app.batch_id', gen_random_uuid()::text, true) as batch_id`))
  let [last, count] = [BEFORE_ANY_ID, 0]
  for (;;) {
    const page = onlyRow(await tx.run(deletePage(last)))
    count += page.count
    if (page.last === null) return { count, batch_id }
    last = page.last
  }
}

/** Deletes the next rows, in the order of their ids: all at once would take longer than a statement may. */
const deletePage = (after: number) => sql<{ last: number | null, count: number }>`
  with gone as (
    delete from tenant_configs
    where id = any(array(select id from tenant_configs where id > ${after} order by id limit ${PAGE})) returning id
  )
  select max(id) as last, count(*)::int as count from gone`

/**
 * The result of an offboarding. `kept`: our app is subscribed to an account of this tenant alone, or unsubscribed from
 * one with a verified number of another tenant. `changed`: the row differs from the given one.
 */
export interface Removal { outcome: 'removed' | 'kept' | 'changed' }

type OffboardedRow = Pick<TenantConfigRow, 'id' | 'tenant_id' | 'waba_id' | 'access_token'>

/**
 * Deletes a row that matches and still holds the given account and token, if the subscription of our app is right:
 * unsubscribed, unless another tenant has a verified number on the account. A row without account or token needs no
 * unsubscription.
 * The locks serialize concurrent offboardings: the second of the last two tenants finds no other number. As in a
 * verification, the row is locked before the verified identities.
 */
export const removeOffboardedQuery = (
  { id, tenant_id, waba_id, access_token }: OffboardedRow, isUnsubscribed: boolean, ifMatch: IfMatch
) => sql<Removal>`
  with own as (
    select from tenant_configs
    where id = ${id} and waba_id = ${waba_id} and access_token = ${access_token}
    and ${isAmong(sql.param(tagsOf(ifMatch)))} for update
  ),
  numbers as (
    ${numbersOnAccount(waba_id)} and exists (select from own)
    order by ${verifiedIdentities.tenant_id} for update of ${verifiedIdentities}
  ),
  deleted as (
    delete from tenant_configs
    where id = ${id} and waba_id is not distinct from ${waba_id}
    and access_token is not distinct from ${access_token} and ${isAmong(sql.param(tagsOf(ifMatch)))} and (
      waba_id is null or access_token is null or
      ${isUnsubscribed}::boolean <> exists (select from numbers where numbers.tenant_id <> ${tenant_id})
    )
    returning id
  )
  select case when exists (select from deleted) then 'removed'
    when exists (select from own) then 'kept' else 'changed' end as outcome`
