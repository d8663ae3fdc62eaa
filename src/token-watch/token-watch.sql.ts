import { sql, type SQL } from 'drizzle-orm'
import {
  tenantConfigs, tokenWatch, verifiedIdentities, type TenantConfigRow
} from '../database/schema/tenant-configs.js'
import type { Queryable } from '../database/statement.js'
import { isVerified } from '../database/verified-identity.js'
import { deadStatuses, type AccountStatus, type NumberStatus, type TokenStatus } from '../schemas/statuses.js'
import type { NumberFacts } from './number-state.js'

type WatchRow = typeof tokenWatch.$inferSelect

/** Tokens that one statement claims at most. */
export const MAX_CLAIMED = 100
/** The order of the claims: the lanes by their `is_deadline`, and within a lane the token that is due first. */
export const LANES = [true, false] as const

/** The due time of a token whose tenant is off; the triggers set the same. */
const NEVER = '9999-12-31T00:00:00Z'
// While an app is blocked: due tokens of a lane that are searched for those of other apps, and those that are
// claimable. Literals, not parameters: a million tokens may be due, and PostgreSQL must plan for few rows.
const MAX_SEEN = sql.raw('5000')
const MAX_CLAIMABLE = sql.raw(String(MAX_CLAIMED))

// Unix milliseconds by the clock of the database, which all instances share.
const clock = sql`(extract(epoch from clock_timestamp()) * 1000)::float8`
const later = (ms: number) => sql`now() + ${ms}::float8 * interval '1 millisecond'`
const isDead = sql`status in (${sql.join(deadStatuses.map((status) => sql`${status}`), sql`, `)})`

/** A claimed token. `claim` is the `next_check_at` that the claim set: the claim holds while it is unchanged. */
export interface Claim { tenant_id: string, claim: string }

const isClaimed = ({ tenant_id, claim }: Claim) =>
  sql`token_watch.tenant_id = ${tenant_id} and token_watch.next_check_at = ${claim}`

/** The row of a claimed token with its watch, and the time of the database (Unix milliseconds). */
export type ClaimedRow = TenantConfigRow & Pick<WatchRow, 'data_access_ends_at' | 'is_deadline'> &
  { is_verified: boolean, now: number }

/** The state of a tenant's account by Meta's account updates; without a reason where Meta gave none. */
export interface AccountHealth {
  account_status: AccountStatus
  account_reason: string | null
  account_initiated_by: string | null
}

/**
 * The state of a tenant's token and number. `token_status` is null without a row in `token_watch`. The number is one of
 * which nothing is known where `phone_numbers` has no row.
 */
export interface HealthRow extends Pick<WatchRow, 'reason' | 'checked_at'>, AccountHealth {
  has_token: boolean
  token_status: TokenStatus | null
  token_expires_at: string | null
  number_status: NumberStatus
  number: NumberFacts
  /** Null for a tenant that is off. */
  next_check_at: string | null
}

/** Reads the state of a tenant's token. */
export const healthQuery = (tenantId: string) => sql<HealthRow>`
  select access_token is not null as has_token, token_watch.status as token_status, token_watch.reason, checked_at,
    token_expires_at, case when is_active then next_check_at end as next_check_at,
    case when phone_number_id is null then 'none' else coalesce(number_status, 'unknown') end as number_status,
    json_build_object('status', phone.status, 'quality_rating', quality_rating) as number,
    coalesce(account.status, 'ok') as account_status,
    case when account.status <> 'ok' then coalesce(account.reason, account.event) end as account_reason,
    case when account.status <> 'ok' then account.initiated_by end as account_initiated_by
  from tenant_configs left join token_watch using (tenant_id) left join account_states account using (tenant_id)
    left join phone_numbers phone using (tenant_id, phone_number_id)
  where tenant_configs.tenant_id = ${tenantId}`

/**
 * Claims up to `limit` due tokens for `lease` milliseconds in the order of the lanes, without those that another
 * process is claiming.
 */
export const claimQuery = (limit: number, lease: number) => claimFrom(limit, lease, () => sql``)

/**
 * As `claimQuery`, without the tokens of `blocked` apps. A row without an app of its own uses the `platform` app (''
 * for none). A token whose end has passed needs no call, and is claimed too.
 */
export function claimUnblockedQuery (limit: number, lease: number, blocked: string[], platform: string) {
  const app = sql`coalesce(case when fb_app_secret is not null then fb_app_id end, ${platform}::text)`
  return claimFrom(limit, lease, (isDue) => sql`and tenant_id in (
    select seen.tenant_id from (
      select tenant_id, next_check_at, data_access_ends_at from token_watch where ${isDue}
      order by next_check_at limit ${MAX_SEEN}
    ) as seen join tenant_configs using (tenant_id)
    where ${app} <> all(${sql.param(blocked)}::text[])
      or least(token_expires_at, data_access_ends_at) <= now()
    order by seen.next_check_at limit ${MAX_CLAIMABLE}
  )`)
}

/** @param restrict the further condition of a lane, whose tokens are those of `isDue` */
function claimFrom (limit: number, lease: number, restrict: (isDue: SQL) => SQL) {
  const [first, second] = LANES.map((isDeadline) => {
    const isDue = sql`${isDeadline ? sql`is_deadline` : sql`not is_deadline`} and next_check_at <= now()`
    return sql`select tenant_id as id from token_watch where ${isDue} ${restrict(isDue)}
      order by next_check_at limit ${limit} for update skip locked`
  })
  // The second lane locks as many rows as the outer limit takes. PostgreSQL plans for the inner one.
  return sql<Claim>`
    with first as (${first}),
    second as (select id from (${second}) as lane limit ${limit} - (select count(*) from first)),
    due as (select id from first union all select id from second)
    update token_watch set next_check_at = ${later(lease)} from due where token_watch.tenant_id = due.id
    returning token_watch.tenant_id, token_watch.next_check_at as claim`
}

/**
 * Reads the row of a claimed token; none once the claim is lost. `is_verified`: its ids are verified with its present
 * token.
 */
export const claimedQuery = (claim: Claim) => sql<ClaimedRow>`
  select tenant_configs.*, data_access_ends_at, is_deadline, ${clock} as now,
    last_verified_at is not null and ${verifiedIdentities.tenant_id} is not null as is_verified
  from token_watch join ${tenantConfigs} using (tenant_id) left join ${verifiedIdentities} on ${isVerified}
  where ${isClaimed(claim)}`

/** Parks a token whose tenant was turned off without the triggers, or before they existed. */
export const parkQuery = (claim: Claim) => sql`
  update token_watch set next_check_at = ${NEVER} where ${isClaimed(claim)} and exists (
    select from tenant_configs config where config.tenant_id = token_watch.tenant_id and not is_active)`

/** Makes a tenant's token due in `wait` milliseconds at the latest. */
export async function checkWithin (tx: Queryable, tenantId: string, wait: number): Promise<void> {
  await tx.run(sql`update token_watch set next_check_at = least(next_check_at, ${later(wait)})
    where tenant_id = ${tenantId}`)
}

/** Releases a claim: the token is due in `wait` milliseconds. */
export const releaseQuery = (claim: Claim, wait: number) => sql`
  update token_watch set next_check_at = ${later(wait)} where ${isClaimed(claim)}`

/**
 * Records that a token cannot be checked, and makes it due in `wait` milliseconds. A dead token stays dead: as
 * `unverified` it would count as a new one, and be reported again.
 */
export async function saveFault (tx: Queryable, tenantId: string, reason: string, wait: number): Promise<void> {
  await tx.run(sql`update token_watch set next_check_at = ${later(wait)},
    status = case when ${isDead} then status else 'unverified' end,
    reason = case when ${isDead} then reason else ${reason} end
    where tenant_id = ${tenantId}`)
}

/** The locked columns of the configuration. */
interface LockedConfig extends Pick<TenantConfigRow, 'is_active' | 'waba_id' | 'phone_number_id'> {
  /** The stored token, sealed. */
  access_token: string
  expires_at: string | null
}

/** The state of a locked token, and the token and ids of its row. `next_check_at` is null for a tenant that is off. */
export interface LockedWatch
  extends LockedConfig, Pick<WatchRow, 'status' | 'reason' | 'reported' | 'checked_at' | 'data_access_ends_at'> {
  next_check_at: string | null
  /** The time of the database (Unix milliseconds). */
  now: number
}

/** Locks a tenant's configuration, then its watch; undefined without a token. */
export async function lockWatch (tx: Queryable, tenantId: string): Promise<LockedWatch | undefined> {
  const [config] = await tx.run(sql<LockedConfig>`
    select access_token, token_expires_at as expires_at, is_active, waba_id, phone_number_id from tenant_configs
    where tenant_id = ${tenantId} and access_token is not null for no key update`)
  if (config === undefined) return undefined
  // The clock is read after the lock: of two findings the later one then has the later time.
  const [watch] = await tx.run(sql<Omit<LockedWatch, keyof LockedConfig>>`
    select status, reason, reported, checked_at, data_access_ends_at, next_check_at, ${clock} as now
    from token_watch where tenant_id = ${tenantId} for update`)
  return watch && { ...config, ...watch, next_check_at: config.is_active ? watch.next_check_at : null }
}

/**
 * Sets when the stored token expires (ISO 8601). A trigger makes the token due at once, so `saveWatch` comes after it.
 */
export async function setExpiry (tx: Queryable, tenantId: string, expiresAt: string | null): Promise<void> {
  await tx.run(sql`update tenant_configs set token_expires_at = ${expiresAt} where tenant_id = ${tenantId}`)
}

/**
 * Replaces the token sealed as `sealed` in the configuration and, with its expiry (ISO 8601), in onboardings. A trigger
 * sets the status to `unverified`.
 */
export async function replaceToken (
  tx: Queryable, tenantId: string, sealed: string, replacement: string, expiresAt: string | null
): Promise<void> {
  await tx.run(sql`update tenant_configs set access_token = ${replacement} where tenant_id = ${tenantId}`)
  await tx.run(sql`update onboardings set access_token = ${replacement}, token_expires_at = ${expiresAt}
    where tenant_id = ${tenantId} and access_token = ${sealed}`)
  await tx.run(sql`update onboardings set former = jsonb_set(former, '{access_token}', to_jsonb(${replacement}::text))
    where tenant_id = ${tenantId} and former ->> 'access_token' = ${sealed}`)
}

/** The next state of a token; times are ISO 8601. Without a `next_check_at` it is not checked. */
export type WatchUpdate =
  Pick<WatchRow, 'status' | 'reason' | 'reported' | 'checked_at' | 'data_access_ends_at' | 'is_deadline'> &
  { next_check_at: string | null }

/** Writes the next state of a tenant's token. */
export async function saveWatch (tx: Queryable, tenantId: string, values: WatchUpdate): Promise<void> {
  await tx.run(sql`update token_watch set status = ${values.status}, reason = ${values.reason},
    reported = ${values.reported}, checked_at = ${values.checked_at},
    data_access_ends_at = ${values.data_access_ends_at}, is_deadline = ${values.is_deadline},
    next_check_at = ${values.next_check_at ?? NEVER} where tenant_id = ${tenantId}`)
}
