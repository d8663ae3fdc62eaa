import { sql } from 'drizzle-orm'
import type { TenantConfigRow } from '../database/schema.js'
import type { Queryable } from '../database/statement.js'

/**
 * A tenant on an account that is lost to us, unless it was onboarded there since (`is_lost` false); the token is sealed.
 */
export type TenantOnLostWaba = Pick<TenantConfigRow, 'tenant_id' | 'access_token'> & { waba_id: string, is_lost: boolean }

// Meta's clock need not be ours.
const CLOCK_SKEW = sql`interval '5 seconds'`

/** Keeps the digest of a delivery. Returns whether it was unknown so far. */
export async function recordDelivery (tx: Queryable, digest: string): Promise<boolean> {
  return await tx.count(sql`insert into webhook_deliveries (digest) values (${digest}) on conflict do nothing`) > 0
}

/**
 * Deactivates every tenant on one of the accounts, except those that were onboarded after theirs was lost. Rows are locked in
 * one order, so that two deliveries do not wait for each other. Returns all of them.
 *
 * @param times when each account was lost, in Unix seconds, in the order of `wabaIds`; Infinity where nobody says
 */
export async function deactivateWabas (tx: Queryable, wabaIds: string[], times: number[]): Promise<TenantOnLostWaba[]> {
  return await tx.run(sql<TenantOnLostWaba>`
    with locked as (
      select config.id, tenant_id, waba_id, access_token,
        not coalesce(to_timestamp(lost.at) < onboarded_at - ${CLOCK_SKEW}, false) as is_lost
      from tenant_configs config
      join unnest(${sql.param(wabaIds)}::text[], ${sql.param(times)}::float8[]) lost (waba, at) on waba_id = waba
      order by config.id for update of config
    ),
    updated as (
      update tenant_configs config set is_active = false from locked where config.id = locked.id and is_lost
    )
    select tenant_id, waba_id, access_token, is_lost from locked order by id`)
}
