import { sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { TenantConfigRow } from './schema.js'

/** What the statements of a caller's transaction need of it. */
type Transaction = Pick<NodePgDatabase, 'execute'>

/** A tenant on an account that is lost to us, unless it was onboarded there since (`is_lost` false); the token is sealed. */
export type OnLostWaba = Pick<TenantConfigRow, 'tenant_id' | 'access_token'> & { waba_id: string, is_lost: boolean }

// Meta's clock need not be ours.
const CLOCKS = sql`interval '5 seconds'`

/**
 * What became of a row that leaves: it is `removed`; it is `kept`, since our app is on an account that is its alone, or off one where a
 * number of another tenant lives; or it is not what was read.
 */
export interface Removal extends Record<string, unknown> { outcome: 'removed' | 'kept' | 'changed' }

/**
 * Deletes the row that was read, if it still holds the same account and token, and our app is where it is to be: off the account
 * (`isOff`), or on it where a number of another tenant lives there. A row without either leaves nothing to be done.
 * It judges by what it has locked, so that of the last two tenants of an account who leave at once the second finds itself alone.
 */
export const removeLeavingQuery = ({ id, waba_id, access_token }: Pick<TenantConfigRow, 'id' | 'waba_id' | 'access_token'>, isOff: boolean) => sql`
  with locked as (select id, phone_number_id, access_token from tenant_configs where waba_id = ${waba_id} order by id for update),
  gone as (
    delete from tenant_configs where id = ${id} and waba_id is not distinct from ${waba_id} and access_token is not distinct from ${access_token} and (
      waba_id is null or access_token is null or
      ${isOff}::boolean <> exists (select from locked where locked.id <> ${id} and locked.phone_number_id is not null)
    )
    returning id
  )
  select case when exists (select from gone) then 'removed'
    when exists (select from locked where id = ${id} and access_token = ${access_token}) then 'kept' else 'changed' end as outcome`

/** Keeps the digest of a delivery, and no digest for longer than 30 days. Returns whether it was unknown so far. */
export async function recordDelivery (tx: Transaction, digest: string): Promise<boolean> {
  const { rows } = await tx.execute(sql`
    with old as (delete from webhook_deliveries where received_at < now() - interval '30 days')
    insert into webhook_deliveries (digest) values (${digest}) on conflict do nothing returning digest`)
  return rows.length > 0
}

/**
 * Deactivates every tenant on one of the accounts but those who were onboarded after theirs was lost: at the Unix seconds in `times`, in the
 * same order; Infinity where nobody says. Rows are locked in one order, so that two deliveries do not wait for each other.
 * Returns all of them.
 */
export async function deactivateWabas (tx: Transaction, wabaIds: string[], times: number[]): Promise<OnLostWaba[]> {
  const { rows } = await tx.execute<OnLostWaba>(sql`
    with locked as (
      select config.id, tenant_id, waba_id, access_token, not coalesce(to_timestamp(lost.at) < onboarded_at - ${CLOCKS}, false) as is_lost
      from tenant_configs config join unnest(${sql.param(wabaIds)}::text[], ${sql.param(times)}::float8[]) lost (waba, at) on waba_id = waba
      order by config.id for update of config
    ),
    updated as (update tenant_configs config set is_active = false from locked where config.id = locked.id and is_lost)
    select tenant_id, waba_id, access_token, is_lost from locked order by id`)
  return rows
}
