import { sql } from 'drizzle-orm'
import type { TenantConfigRow } from '../database/schema/tenant-configs.js'
import type { Queryable } from '../database/statement.js'
import type { AccountState, TenantState } from './account-state.js'
import type { AccountUpdate } from './delivery.js'

/**
 * A locked tenant on an account, with the updates about it, in their order. `unclear` ones are about a number that may
 * be the tenant's: its digits are unknown. The token is sealed.
 */
export interface TenantOnAccount extends TenantState, Pick<TenantConfigRow, 'tenant_id' | 'access_token'> {
  waba_id: string
  updates: AccountUpdate[]
  unclear: AccountUpdate[]
}

type TenantRow = Omit<TenantOnAccount, 'updates' | 'unclear'> & { has_number: boolean, phone_digits: string | null }

/** The new state of a tenant. */
export interface StateUpdate extends AccountState { tenant_id: string, is_resumption_due: boolean }

/** Stores the digest of a delivery. Returns false for one that was stored before. */
export async function recordDelivery (tx: Queryable, digest: string): Promise<boolean> {
  return await tx.count(sql`insert into webhook_deliveries (digest) values (${digest}) on conflict do nothing`) > 0
}

/**
 * Decides which tenants updates are about, and locks them: those on the account, and of these the one with the number
 * if an update names one. Rows are locked in one order: two deliveries at once must not deadlock.
 */
export async function lockTenants (tx: Queryable, updates: AccountUpdate[]): Promise<TenantOnAccount[]> {
  const accountIds = sql`${sql.param(updates.map(({ accountId }) => accountId))}::text[]`
  const locked = await tx.run(sql<{ id: number }>`
    select id from tenant_configs where waba_id = any(${accountIds}) order by id for update`)
  // A separate statement sees all that was committed while the first one waited for its locks.
  const tenants = await tx.run(sql<TenantRow>`
    select config.tenant_id, waba_id, access_token, is_active, extract(epoch from onboarded_at)::float8 as onboarded_at,
      coalesce(account.status, 'ok') as status, event, reason, initiated_by, coalesce(turned_off, false) as turned_off,
      extract(epoch from acted_at)::float8 as acted_at, config.phone_number_id is not null as has_number,
      nullif(regexp_replace(display_phone_number, '[^0-9]', '', 'g'), '') as phone_digits
    from tenant_configs config left join account_states account using (tenant_id)
    left join phone_numbers phone
      on phone.tenant_id = config.tenant_id and phone.phone_number_id = config.phone_number_id
    where config.id = any(${sql.param(locked.map(({ id }) => id))}::int[]) order by config.id`)
  return tenants.map(({ has_number: hasNumber, phone_digits: tenantDigits, ...tenant }) => {
    const onAccount = updates.filter(({ accountId }) => accountId === tenant.waba_id)
    const isUnclear = ({ kind, phoneDigits }: AccountUpdate) => phoneDigits !== null && hasNumber &&
      // The live check of a resumption looks for the number itself.
      tenantDigits === null && kind !== 'resumed'
    const isAbout = ({ kind, phoneDigits }: AccountUpdate) => phoneDigits === null || phoneDigits === tenantDigits ||
      (hasNumber && tenantDigits === null && kind === 'resumed')
    return { ...tenant, updates: onAccount.filter(isAbout), unclear: onAccount.filter(isUnclear) }
  })
}

/** Turns tenants off. A trigger clears `turned_off`, so that `saveStates` comes after it. */
export async function turnOff (tx: Queryable, tenantIds: string[]): Promise<void> {
  await tx.run(sql`update tenant_configs set is_active = false where tenant_id = any(${sql.param(tenantIds)}::text[])`)
}

/** Writes the states of tenants. */
export async function saveStates (tx: Queryable, states: StateUpdate[]): Promise<void> {
  await tx.run(sql`
    insert into account_states (tenant_id, status, event, reason, initiated_by, turned_off, acted_at, resume_at)
    select tenant_id, status, event, reason, initiated_by, turned_off, to_timestamp(acted_at),
      case when is_resumption_due then now() end
    from jsonb_to_recordset(${JSON.stringify(states)}::jsonb) as next (tenant_id text, status text, event text,
      reason text, initiated_by text, turned_off boolean, acted_at float8, is_resumption_due boolean)
    on conflict (tenant_id) do update set status = excluded.status, event = excluded.event, reason = excluded.reason,
      initiated_by = excluded.initiated_by, turned_off = excluded.turned_off, acted_at = excluded.acted_at,
      resume_at = excluded.resume_at`)
}

/** Makes the tokens of tenants due now, except those of tenants that are off. */
export async function makeTokensDue (tx: Queryable, tenantIds: string[]): Promise<void> {
  await tx.run(sql`update token_watch set next_check_at = least(next_check_at, now()) from tenant_configs config
    where config.tenant_id = token_watch.tenant_id and is_active
    and token_watch.tenant_id = any(${sql.param(tenantIds)}::text[])`)
}
