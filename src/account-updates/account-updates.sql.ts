import { sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { verifiedIdentities, type TenantConfigRow } from '../database/schema.js'
import { numbersOnAccount } from '../tenant-configs/verified-identities.sql.js'

/** What the statements of a caller's transaction need of it. */
type Transaction = Pick<NodePgDatabase, 'execute'>

/** A tenant on an account that is lost to us, unless it was onboarded there since (`is_lost` false); the token is sealed. */
export type TenantOnLostWaba = Pick<TenantConfigRow, 'tenant_id' | 'access_token'> & { waba_id: string, is_lost: boolean }

// Meta's clock need not be ours.
const CLOCK_SKEW = sql`interval '5 seconds'`

/**
 * What became of a row that leaves: it is `removed`; it is `kept`, since our app is on an account that is its alone, or
 * off one where a verified number of another tenant lives; or it is not what was read.
 */
export interface Removal extends Record<string, unknown> { outcome: 'removed' | 'kept' | 'changed' }

type OffboardedRow = Pick<TenantConfigRow, 'id' | 'tenant_id' | 'waba_id' | 'access_token'>

/**
 * Deletes the row that was read, if it still holds the same account and token, and our app is where it is to be: off the
 * account (`isOff`), or on it where a verified number of another tenant lives there. A row without either leaves nothing
 * to be done. It judges by what it has locked: of the last two tenants who leave at once the second finds itself alone.
 * The row is locked before the verified identities, as a verification does.
 */
export const removeOffboardedQuery = ({ id, tenant_id, waba_id, access_token }: OffboardedRow, isOff: boolean) => sql`
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

/** Keeps the digest of a delivery. Returns whether it was unknown so far. */
export async function recordDelivery (tx: Transaction, digest: string): Promise<boolean> {
  const { rows } = await tx.execute(sql`insert into webhook_deliveries (digest) values (${digest}) on conflict do nothing returning digest`)
  return rows.length > 0
}

/**
 * Deactivates every tenant on one of the accounts but those who were onboarded after theirs was lost: at the Unix seconds in `times`, in the
 * same order; Infinity where nobody says. Rows are locked in one order, so that two deliveries do not wait for each other.
 * Returns all of them.
 */
export async function deactivateWabas (tx: Transaction, wabaIds: string[], times: number[]): Promise<TenantOnLostWaba[]> {
  const { rows } = await tx.execute<TenantOnLostWaba>(sql`
    with locked as (
      select config.id, tenant_id, waba_id, access_token, not coalesce(to_timestamp(lost.at) < onboarded_at - ${CLOCK_SKEW}, false) as is_lost
      from tenant_configs config join unnest(${sql.param(wabaIds)}::text[], ${sql.param(times)}::float8[]) lost (waba, at) on waba_id = waba
      order by config.id for update of config
    ),
    updated as (update tenant_configs config set is_active = false from locked where config.id = locked.id and is_lost)
    select tenant_id, waba_id, access_token, is_lost from locked order by id`)
  return rows
}
