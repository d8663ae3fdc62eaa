import { sql } from 'drizzle-orm'
import type { TenantConfigRow } from './schema.js'

/**
 * Where the callback of a tenant may be set: `is_shared` when a number of another tenant lives on its account, `has_own` when the
 * callback of its number was the last to be set for that number, by whichever tenant.
 */
export interface CallbackGround extends Record<string, unknown> { is_shared: boolean, has_own: boolean }

/** Answers one row, a `CallbackGround`. */
export const callbackGroundQuery = ({ tenant_id, waba_id, phone_number_id }: Pick<TenantConfigRow, 'tenant_id' | 'waba_id' | 'phone_number_id'>) => sql`
  select
    exists (select from tenant_configs where waba_id = ${waba_id} and tenant_id <> ${tenant_id} and phone_number_id is not null) as is_shared,
    coalesce((
      select step -> 'evidence' ->> 'callback' = 'phone_number' from onboardings, jsonb_array_elements(steps) step
      where phone_number_id = ${phone_number_id} and step ->> 'name' = 'subscribe' and step ->> 'status' = 'done'
      order by step ->> 'at' desc limit 1
    ), false) as has_own`
