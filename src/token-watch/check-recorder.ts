import { bySystem, type Audit } from '../audit/audit.js'
import type { Queryable } from '../database/statement.js'
import type { Events, TenantEvent } from '../events/events.js'
import type { TenantConfigs, VerifiedOutcome } from '../tenant-configs/tenant-configs.js'
import type { CheckResult, Due } from './check.js'
import { confirmsIdentity, phoneIn, unverifiedDelay } from './listing.js'
import type { TokenStore } from './store.js'
import { checkWithin, replaceToken, saveFault, type LockedWatch } from './token-watch.sql.js'

interface CheckRecorderDependencies {
  tenantConfigs: Pick<TenantConfigs, 'inTransaction' | 'saveVerifiedIn'>
  tokenWatch: Pick<TokenStore, 'lock' | 'recordLocked' | 'recordNumberIn'>
  events: Pick<Events, 'emit'>
  audit: Pick<Audit, 'record'>
  /** Milliseconds between two checks of a token. */
  interval: number
}

/** The outcome of the verification of an unverified identity; null when there was none. */
type Outcome = VerifiedOutcome | null

/** The state of a token that nothing is known of yet. */
const NEW_TOKEN = { status: 'unverified', reason: null, checked_at: null } as const

/** Returns `recordCheck`, which records the result of a check. */
export function createCheckRecorder (dependencies: CheckRecorderDependencies) {
  const { tenantConfigs, tokenWatch, events, audit, interval } = dependencies

  /**
   * Records the result of a check in one transaction and emits the events. Records nothing when the claim is lost, or
   * another token is stored. What was listed for other ids than those of the row is dropped.
   *
   * @throws `DATABASE_UNAVAILABLE`
   */
  return async function recordCheck (due: Due, result: CheckResult): Promise<Outcome> {
    const { row: { tenant_id: tenantId, waba_id, phone_number_id }, sealed, claim } = due
    const changedTenants = new Set([tenantId])
    const { told, outcome } = await tenantConfigs.inTransaction(changedTenants, async (tx) => {
      const locked = await tokenWatch.lock(tx, tenantId, sealed)
      if (locked?.next_check_at !== claim) return { told: [], outcome: null }
      const transition = await recordFinding(tx, due, locked, result)
      const isDead = 'valid' in result.finding && !result.finding.valid
      const hasOtherIds = locked.waba_id !== waba_id || locked.phone_number_id !== phone_number_id
      if (isDead || hasOtherIds) return { told: [transition], outcome: null }
      const outcome = await verifyIdentity(tx, due, locked, result, changedTenants)
      return { told: [transition, await recordNumber(tx, due, result)], outcome }
    }, { waba_id, phone_number_id })
    for (const event of told) if (event !== null) events.emit(event)
    return outcome
  }

  async function recordFinding (
    tx: Queryable, { row: { tenant_id: tenantId } }: Due, locked: LockedWatch, { finding, replacement }: CheckResult
  ): Promise<TenantEvent | null> {
    if ('fault' in finding) {
      await saveFault(tx, tenantId, finding.fault, finding.wait)
      return null
    }
    if (replacement === null) return await tokenWatch.recordLocked(tx, tenantId, locked, finding)
    await replaceToken(tx, tenantId, locked.access_token, replacement.sealed, replacement.expires_at)
    const fields = ['access_token', 'token_expires_at']
    await audit.record({ ...bySystem, tenant_id: tenantId, action: 'token.extend', fields }, tx)
    return await tokenWatch.recordLocked(tx, tenantId, { ...locked, ...NEW_TOKEN }, finding)
  }

  /** Saves an unverified identity as verified if the listing confirms it; otherwise the next check may come sooner. */
  async function verifyIdentity (
    tx: Queryable, { row }: Due, locked: LockedWatch, { listing, replacement }: CheckResult,
    changedTenants: Set<string>
  ): Promise<Outcome> {
    const { tenant_id, waba_id, phone_number_id, is_verified: isVerified, updated_at: updatedAt } = row
    if (listing === null || waba_id === null || isVerified) return null
    if (confirmsIdentity(listing, phone_number_id)) {
      const identity = { tenant_id, waba_id, phone_number_id, access_token: replacement?.sealed ?? locked.access_token }
      const outcome = await tenantConfigs.saveVerifiedIn(tx, identity, changedTenants)
      if (outcome === 'saved') await audit.record({ ...bySystem, tenant_id, action: 'config.verify', fields: [] }, tx)
      return outcome
    }
    const wait = unverifiedDelay(listing, updatedAt, locked.now, interval)
    if (wait < Infinity) await checkWithin(tx, tenant_id, wait)
    return null
  }

  async function recordNumber (
    tx: Queryable, { row: { tenant_id: tenantId, phone_number_id: phoneNumberId } }: Due, { listing }: CheckResult
  ): Promise<TenantEvent | null> {
    if (phoneNumberId === null) return null
    const phone = phoneIn(listing, phoneNumberId)
    return phone === undefined ? null : await tokenWatch.recordNumberIn(tx, tenantId, phoneNumberId, phone)
  }
}
