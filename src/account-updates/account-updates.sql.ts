import { sql } from 'drizzle-orm'
import type { TenantConfigRow } from '../database/schema.js'
import type { Queryable } from '../database/statement.js'

/** A tenant on a lost account; `is_lost` is false when it was onboarded there since. The token is sealed. */
export type TenantOnLostWaba =
  Pick<TenantConfigRow, 'tenant_id' | 'access_token'> & { waba_id: string, is_lost: boolean }

// Meta's clock may differ from ours.
const CLOCK_SKEW = sql`interval '5 seconds'`

/** Stores the digest of a delivery. Returns false for one that was stored before. */
export async function recordDelivery (tx: Queryable, digest: string): Promise<boolean> {
  return await tx.count(sql`insert into webhook_deliveries (digest) values (${digest}) on conflict do nothing`) > 0
}

/**
 * Deactivates every tenant on one of the accounts, except those that were onboarded after the loss. Returns all tenants
 * on them. Rows are locked in one order: two deliveries at once must not deadlock.
 *
 * @param times of the losses, in the order of `wabaIds` (Unix seconds; Infinity: unknown)
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
