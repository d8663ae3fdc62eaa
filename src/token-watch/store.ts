import { isDeepStrictEqual } from 'node:util'
import type { Database } from '../database/database.js'
import type { Queryable } from '../database/statement.js'
import type { Events, TenantEvent } from '../events/events.js'
import type { PhoneNumber } from '../meta/accounts.js'
import { isoFromMs } from '../schemas/timestamps.js'
import type { NumberStatus, TokenStatus } from '../schemas/statuses.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { Vault } from '../vault/vault.js'
import { nextNumber, numberReason } from './number-state.js'
import { findNumber, saveNumber, storableFacts, type StoredNumber } from './phone-numbers.sql.js'
import { nextState, type TokenFinding } from './state.js'
import {
  healthQuery, lockWatch, saveWatch, setExpiry, type AccountHealth, type LockedWatch
} from './token-watch.sql.js'

/** The state of a tenant's token, number and account; times are ISO 8601. */
export interface TokenHealth extends AccountHealth {
  token_status: TokenStatus
  reason: string | null
  checked_at: string | null
  token_expires_at: string | null
  next_check_at: string | null
  number_status: NumberStatus
  /** Meta's word for the state of the number. */
  number_reason: string | null
}

export type TokenStore = ReturnType<typeof createTokenStore>

interface TokenStoreDependencies {
  database: Pick<Database, 'ofTenant'>
  vault: Pick<Vault, 'isSame'>
  tenantConfigs: Pick<TenantConfigs, 'inTransaction'>
  /** Milliseconds between two checks of a token. */
  interval: number
  events: Pick<Events, 'record' | 'emit'>
}

/** Stores the state of each token and number, and emits transitions. All methods throw `DATABASE_UNAVAILABLE`. */
export function createTokenStore ({ database, vault, tenantConfigs, interval, events }: TokenStoreDependencies) {
  return {
    lock,
    recordLocked,
    recordIn,
    recordNumberIn,

    /** Records as `recordIn` and emits the transition. Returns whether the finding was recorded. */
    async record (tenantId: string, sealed: string, finding: TokenFinding, claim?: string): Promise<boolean> {
      const recorded = await tenantConfigs.inTransaction(
        new Set([tenantId]), async (tx) => await recordIn(tx, tenantId, sealed, finding, claim)
      )
      if (recorded?.transition != null) events.emit(recorded.transition)
      return recorded !== null
    },

    /**
     * Returns the state of the tenant's token and number. Without a token it is `unverified` with the reason
     * `no_token`; null without a configuration.
     */
    async healthOf (tenantId: string): Promise<TokenHealth | null> {
      const [row] = await database.ofTenant(tenantId).run(healthQuery(tenantId))
      if (row === undefined) return null
      const { token_status: status, has_token: hasToken, number, ...health } = row
      const rest = { ...health, number_reason: numberReason({ ...number, ...health }) }
      if (!hasToken) {
        return { ...rest, token_status: 'unverified', reason: 'no_token', checked_at: null, next_check_at: null }
      }
      // A token without a watch was loaded while the triggers were off; the next start reconciles it.
      return { ...rest, token_status: status ?? 'unverified' }
    }
  }

  /**
   * Locks a tenant's token and its state in the caller's transaction; undefined when another token is stored.
   *
   * @param sealed the token that was checked; a rotation may have sealed it anew since
   */
  async function lock (tx: Queryable, tenantId: string, sealed: string): Promise<LockedWatch | undefined> {
    const locked = await lockWatch(tx, tenantId)
    if (locked === undefined) return undefined
    return vault.isSame(locked.access_token, sealed, tenantId, 'access_token') ? locked : undefined
  }

  /**
   * Records a finding about a locked token in the caller's transaction, which must be one of `tenantConfigs`: it may
   * change the expiry in the configuration. The caller emits the transition after the commit.
   */
  async function recordLocked (
    tx: Queryable, tenantId: string, previous: LockedWatch, finding: TokenFinding
  ): Promise<TenantEvent | null> {
    const { event, next_check, expires_at, ...next } = nextState(finding, previous, previous.now, interval)
    const at = isoFromMs(previous.now)
    if (!isSameTime(expires_at, previous.expires_at)) await setExpiry(tx, tenantId, expires_at)
    // An activation of the tenant makes the token due.
    const nextCheckAt = previous.is_active ? isoFromMs(next_check) : null
    await saveWatch(tx, tenantId, { ...next, checked_at: at, next_check_at: nextCheckAt })
    if (event === null) return null
    return await events.record(tx, { tenant_id: tenantId, ...event, to: next.status, reason: next.reason, at })
  }

  /**
   * Locks a token and records a finding as `recordLocked`. Returns null, with nothing recorded, when another token is
   * stored.
   *
   * @param sealed the ciphertext of the token that was checked
   * @param claim nothing is recorded either when this claim is lost
   */
  async function recordIn (
    tx: Queryable, tenantId: string, sealed: string, finding: TokenFinding, claim?: string
  ): Promise<{ transition: TenantEvent | null } | null> {
    const locked = await lock(tx, tenantId, sealed)
    if (locked === undefined || (claim !== undefined && locked.next_check_at !== claim)) return null
    return { transition: await recordLocked(tx, tenantId, locked, finding) }
  }

  /**
   * Records what Meta told about the tenant's number (null: its account does not have it) in the caller's transaction,
   * which must hold a lock of the tenant's row and have seen this number in it. The caller emits the event after the
   * commit.
   */
  async function recordNumberIn (
    tx: Queryable, tenantId: string, phoneNumberId: string, phone: PhoneNumber | null
  ): Promise<TenantEvent | null> {
    const stored = await findNumber(tx, tenantId, phoneNumberId)
    const previous = stored ?? NEW_NUMBER
    const { event, ...next } = nextNumber(phone, previous)
    const values = { ...previous, ...phone && storableFacts(phone), ...next }
    // Most checks find nothing new, and then write nothing.
    if (!isDeepStrictEqual(values, stored)) await saveNumber(tx, tenantId, phoneNumberId, values)
    return event && await events.record(tx, { tenant_id: tenantId, ...event, to: next.number_status })
  }
}

const NEW_NUMBER: StoredNumber = {
  display_phone_number: null,
  verified_name: null,
  is_on_biz_app: null,
  platform_type: null,
  quality_rating: null,
  status: null,
  number_status: 'unknown',
  reported: null
}

/** Whether two times, each ISO 8601 or null, are the same to the millisecond. */
function isSameTime (one: string | null, other: string | null): boolean {
  return one === null || other === null ? one === other : Date.parse(one) === Date.parse(other)
}
