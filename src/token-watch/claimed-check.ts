import { setTimeout as pause } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import type { Audit } from '../audit/audit.js'
import type { Database } from '../database/database.js'
import {
  graphErrorDetails, MetaAppNotConfigured, MetaAppRejected, SecretUnreadable, ServiceClosing
} from '../errors.js'
import type { Events } from '../events/events.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { Vault } from '../vault/vault.js'
import { createCheckRecorder } from './check-recorder.js'
import { createTokenCheck, type CheckResult, type Due } from './check.js'
import { faultDelay, retryDelay } from './retries.js'
import { endOf } from './state.js'
import type { TokenStore } from './store.js'
import { claimedQuery, parkQuery, releaseQuery, type Claim, type ClaimedRow } from './token-watch.sql.js'

/** From this utilization of Meta's limits on, checks pause before their calls: at 100 % for the maximum. */
const BUSY_PERCENT = 75
export const MAX_PAUSE_MS = 5000

/** Faults that an operator or the tenant must correct, each with the recorded reason. */
const FAULTS = [
  [MetaAppNotConfigured, 'no_app'], [SecretUnreadable, 'unreadable'], [MetaAppRejected, 'app_rejected']
] as const

type ClaimedDue = Due & { row: ClaimedRow }

export interface ClaimedCheckDependencies {
  database: Pick<Database, 'run'>
  vault: Pick<Vault, 'open' | 'seal'>
  metaGraph: Pick<
    MetaGraph, 'appOf' | 'inspectToken' | 'extendToken' | 'listPhoneNumbers' | 'utilizationOf'
  >
  tokenWatch: Pick<TokenStore, 'lock' | 'record' | 'recordLocked' | 'recordNumberIn'>
  tenantConfigs: Pick<TenantConfigs, 'inTransaction' | 'saveVerifiedIn'>
  events: Pick<Events, 'emit'>
  audit: Pick<Audit, 'record'>
  /** Milliseconds between two checks of a token. */
  interval: number
  /** Aborted when the scheduler closes. */
  signal: AbortSignal
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
}

/** Returns `checkClaimed`, which checks the token of a claim and records the result, or when it is due again. */
export function createClaimedCheck (dependencies: ClaimedCheckDependencies) {
  const { database, metaGraph, tokenWatch, interval, signal, log } = dependencies
  const { checkToken, listWithoutApp } = createTokenCheck({ ...dependencies, callMeta })
  const recordCheck = createCheckRecorder(dependencies)

  return async function checkClaimed (claim: Claim): Promise<void> {
    if (signal.aborted) {
      await database.run(releaseQuery(claim, 0))
      return
    }
    const [row] = await database.run(claimedQuery(claim))
    if (row === undefined || row.access_token === null) return
    if (!row.is_active) {
      await database.run(parkQuery(claim))
      return
    }
    const due = { row, sealed: row.access_token, claim: claim.claim }
    try {
      await check(due)
    } catch (err) {
      await handleFailure(due, err)
    }
  }

  async function check (due: ClaimedDue): Promise<void> {
    const result = await examine(due).catch(async (err: unknown) => await examineFaulty(due, err))
    if (result === null) return
    const { tenant_id: tenantId } = due.row
    const outcome = await recordCheck(due, result)
    if ('fault' in result.finding) {
      log.warn({ tenant_id: tenantId, reason: result.finding.fault },
        'a token cannot be checked until somebody mends what is wrong')
    }
    if (outcome === 'saved') log.info({ tenant_id: tenantId }, 'verified the account and the number of a tenant')
    if (outcome === 'taken') {
      log.warn({ tenant_id: tenantId }, 'a number stays unverified: it is verified for another tenant')
    }
  }

  /** Asks Meta. Returns null when Meta lets no call through: the token is rescheduled. */
  async function examine (due: ClaimedDue): Promise<CheckResult | null> {
    signal.throwIfAborted()
    const { row } = due
    const app = metaGraph.appOf(row)
    const { percent, blockedUntil } = metaGraph.utilizationOf(app.id, row.waba_id)
    if (blockedUntil > 0) {
      await reschedule(due, blockedUntil - Date.now())
      return null
    }
    const pauseRatio = Math.min(1, (percent - BUSY_PERCENT + 1) / (100 - BUSY_PERCENT))
    if (pauseRatio > 0) await pause(MAX_PAUSE_MS * pauseRatio, undefined, { signal, ref: false })
    return await checkToken(due, app)
  }

  /**
   * Returns the result of a check that a fault prevented. Without its app the token alone may still confirm the
   * identity. Throws an error that is no such fault.
   */
  async function examineFaulty (due: ClaimedDue, err: unknown): Promise<CheckResult> {
    const fault = FAULTS.find(([Fault]) => err instanceof Fault)?.[1]
    if (fault === undefined) throw err
    const { left, passed } = endOfRow(due.row)
    if (left <= 0) return { finding: { valid: false, reason: passed }, replacement: null, listing: null }
    try {
      const listing = fault === 'unreadable' || due.row.is_verified ? null : await listWithoutApp(due)
      return { finding: { fault, wait: Math.min(faultDelay(interval), left) }, replacement: null, listing }
    } catch (another) {
      return await examineFaulty(due, another)
    }
  }

  /** Reschedules a token whose check failed. Throws an error that is neither the closing's nor Meta's. */
  async function handleFailure (due: ClaimedDue, err: unknown): Promise<void> {
    // At the closing, calls to Meta are refused shortly before the scheduler is closed.
    if (signal.aborted || err instanceof ServiceClosing) await reschedule(due, 0)
    else if (graphErrorDetails(err) === null) throw err
    else await reschedule(due, retryDelay(err, due.row.is_deadline, interval))
  }

  /** Makes a token due in `longest` milliseconds, or at its end if that is sooner. Records an end that has passed. */
  async function reschedule ({ row, sealed, claim }: ClaimedDue, longest: number): Promise<void> {
    const { left, passed } = endOfRow(row)
    if (left <= 0) await tokenWatch.record(row.tenant_id, sealed, { valid: false, reason: passed }, claim)
    else await database.run(releaseQuery({ tenant_id: row.tenant_id, claim }, Math.min(longest, left)))
  }

  /** Makes a call and waits for it, at most until the closing. */
  async function callMeta<T> (call: () => Promise<T>): Promise<T> {
    signal.throwIfAborted()
    return await new Promise((resolve, reject) => {
      const stop = () => { reject(signal.reason) }
      signal.addEventListener('abort', stop, { once: true })
      call().then(resolve, reject).finally(() => { signal.removeEventListener('abort', stop) })
    })
  }
}

const endOfRow = ({ token_expires_at: expiresAt, data_access_ends_at, now }: ClaimedRow) =>
  endOf({ expires_at: expiresAt, data_access_ends_at }, now)
