import { setTimeout as pause } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import type { Database } from '../database/database.js'
import {
  graphErrorDetails, MetaAppNotConfigured, MetaAppRejected, MetaRateLimited, SecretUnreadable, ServiceClosing
} from '../errors.js'
import { retryAfterIn } from '../meta/advice.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { MetaApp } from '../meta/types.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { Vault } from '../vault/vault.js'
import { createTokenCheck } from './check.js'
import { createIdentityCheck, type ClaimedIdentity } from './identity-check.js'
import { DATE_PASSED, timeLeft } from './state.js'
import type { TokenStore } from './store.js'
import {
  claimedQuery, claimQuery, claimUnblockedQuery, parkQuery, releaseQuery, soonerQuery, unknownQuery, type Claim,
  type ClaimedRow
} from './token-watch.sql.js'

const SECOND_MS = 1000
const MINUTE_MS = 60 * SECOND_MS

/** Tokens that are claimed at a time. */
const BATCH = 10
/** Between two polls for due tokens, unless the interval of the checks is shorter. */
const POLL_INTERVAL_MS = 30 * SECOND_MS
/** The delay after a transient failure, such as a timeout of Meta. */
const RETRY_MS = 5 * MINUTE_MS
/** The delay after a fault that an operator or the tenant must correct. */
const OPERATOR_FAULT_RETRY_MS = 60 * MINUTE_MS
/** Between two checks of an unverified identity, for a day after its row was written: its number may appear at Meta. */
const UNVERIFIED_RETRY_MS = 60 * MINUTE_MS
const NEW_ROW_AGE_MS = 24 * 60 * MINUTE_MS
/** From this utilization of Meta's limits on, checks pause before each call: at 100 % for the maximum. */
const BUSY_PERCENT = 75
const MAX_PAUSE_MS = 5 * SECOND_MS
const CALLS_PER_CHECK = 3

/** A claimed token: its row, its ciphertext and its claim. */
interface Due { row: ClaimedRow, sealed: string, claim: Claim }

/** An identity to verify, the app of the call (undefined: the token alone), and when the row was written (ISO 8601). */
interface Unverified { identity: ClaimedIdentity, app: MetaApp | undefined, updated_at: string }

/** Faults that an operator or the tenant must correct, each with the recorded reason. */
const FAULTS = [
  [MetaAppNotConfigured, 'no_app'], [SecretUnreadable, 'unreadable'], [MetaAppRejected, 'app_rejected']
] as const

interface TokenSchedulerDependencies {
  database: Pick<Database, 'run'>
  vault: Pick<Vault, 'open' | 'seal'>
  metaGraph: Pick<
    MetaGraph,
    'appOf' | 'platformAppId' | 'inspectToken' | 'extendToken' | 'listPhoneNumbers' | 'utilizationOf' | 'blockedApps'
  >
  tokenWatch: Pick<TokenStore, 'record' | 'extend'>
  tenantConfigs: Pick<TenantConfigs, 'saveVerified'>
  /** Milliseconds between two checks of a token. */
  interval: number
  /** Milliseconds that a call to Meta may take. */
  timeoutMs: number
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
}

/**
 * Checks stored tokens at their `token_watch.next_check_at`. A claim moves that time to the end of the claim: no other
 * process checks the token before, and one does if the claimant dies. An instance runs one check at a time. A check
 * also verifies an unverified identity.
 */
export function createTokenScheduler (dependencies: TokenSchedulerDependencies) {
  const { database, metaGraph, tokenWatch, interval, timeoutMs, log } = dependencies
  const checkToken = createTokenCheck(dependencies)
  const verifyIdentity = createIdentityCheck(dependencies)
  const closing = new AbortController()
  const { signal } = closing
  const period = Math.min(POLL_INTERVAL_MS, interval)
  let timer: NodeJS.Timeout | undefined
  let polling = Promise.resolve()

  return {
    /** Starts to poll for due tokens. */
    start,

    /** Starts no more checks, and aborts the running one. */
    close (): void {
      closing.abort()
      clearTimeout(timer)
    },

    /** Resolves when no check runs, within two seconds of `close`. */
    closed: async (): Promise<void> => await polling
  }

  function start (): void {
    polling = poll().catch((err: unknown) => {
      log.warn({ err }, 'the token monitor could not look for tokens that are due; it tries again')
      return Math.max(period, SECOND_MS)
    }).then((wait) => {
      if (!signal.aborted) timer = setTimeout(start, wait).unref()
    })
  }

  /** Checks all due tokens. Returns the milliseconds until the next poll. */
  async function poll (): Promise<number> {
    while (!signal.aborted) {
      const claims = await claimTokens()
      const unverified: Unverified[] = []
      for (const claim of claims) {
        // The claim of a check that fails ends by itself.
        await logFailure(claim.tenant_id, async () => { unverified.push(...await processClaim(claim)) })
      }
      // After the checks: the claims last for the calls of the checks alone.
      for (const found of unverified) await logFailure(found.identity.tenant_id, async () => { await verify(found) })
      if (claims.length < BATCH) break
    }
    return period
  }

  /** Claims due tokens, without those of an app that Meta blocks. */
  async function claimTokens (): Promise<Claim[]> {
    const lease = BATCH * (CALLS_PER_CHECK * timeoutMs + MAX_PAUSE_MS)
    const blocked = metaGraph.blockedApps()
    return await database.run(blocked.length === 0
      ? claimQuery(BATCH, lease)
      : claimUnblockedQuery(BATCH, lease, blocked, metaGraph.platformAppId ?? ''))
  }

  async function logFailure (tenantId: string, work: () => Promise<void>): Promise<void> {
    await work().catch((err: unknown) => {
      log.warn({ err, tenant_id: tenantId }, 'the check of a token failed; it is tried again')
    })
  }

  /** Checks the token of a claim. Returns its identity if that is unverified and can be verified now. */
  async function processClaim (claim: Claim): Promise<Unverified[]> {
    const [row] = await database.run(claimedQuery(claim))
    if (row === undefined || row.access_token === null) return []
    if (!row.is_active) {
      await database.run(parkQuery(claim))
      return []
    }
    const credentials = await check({ row, sealed: row.access_token, claim })
    const { tenant_id, waba_id, phone_number_id, updated_at } = row
    if (credentials === null || row.is_verified || waba_id === null) return []
    const identity = { tenant_id, waba_id, phone_number_id, access_token: credentials.token }
    return [{ identity, app: credentials.app, updated_at }]
  }

  /** Returns the credentials to verify the identity with: the token, sealed, and its app; null when that must wait. */
  async function check (due: Due): Promise<{ token: string, app: MetaApp | undefined } | null> {
    const { row, sealed, claim: { claim } } = due
    try {
      signal.throwIfAborted()
      const app = metaGraph.appOf(row)
      const { percent, blockedUntil } = metaGraph.utilizationOf(app.id, row.waba_id)
      if (blockedUntil > 0) {
        await reschedule(due, blockedUntil - Date.now())
        return null
      }
      const pauseRatio = Math.min(1, (percent - BUSY_PERCENT + 1) / (100 - BUSY_PERCENT))
      if (pauseRatio > 0) await pause(MAX_PAUSE_MS * pauseRatio, undefined, { signal, ref: false })
      const stored = await checkToken({ row, sealed, app, claim }, callMeta)
      return stored === null ? null : { token: stored, app }
    } catch (err) {
      await handleFailure(due, err)
      const lacksApp = err instanceof MetaAppNotConfigured || err instanceof MetaAppRejected
      return lacksApp ? { token: sealed, app: undefined } : null
    }
  }

  /** Verifies an identity. If Meta does not confirm a new one, or the call fails, the next check comes sooner. */
  async function verify ({ identity, app, updated_at: updatedAt }: Unverified): Promise<void> {
    const checkSooner = async (longest: number) => {
      await database.run(soonerQuery(identity.tenant_id, Math.min(interval, longest)))
    }
    try {
      const outcome = await verifyIdentity(identity, app, callMeta)
      const isNew = Date.now() - Date.parse(updatedAt) < NEW_ROW_AGE_MS
      if (outcome === 'unlisted' && isNew) await checkSooner(UNVERIFIED_RETRY_MS)
    } catch (err) {
      if (isClosing(err)) await checkSooner(0)
      else if (graphErrorDetails(err) !== null) await checkSooner(retryDelay(err))
      else throw err
    }
  }

  /** Reschedules a token whose check failed. Throws an error that is neither the tenant's nor Meta's. */
  async function handleFailure (due: Due, err: unknown): Promise<void> {
    const fault = FAULTS.find(([Fault]) => err instanceof Fault)
    if (isClosing(err)) await release(due, 0)
    else if (fault !== undefined) await reschedule(due, Math.min(interval, OPERATOR_FAULT_RETRY_MS), fault[1])
    else if (graphErrorDetails(err) !== null) await reschedule(due, retryDelay(err))
    else throw err
  }

  /**
   * Reschedules a token in `longest` milliseconds, or at its expiry if that is sooner. A token whose expiry has passed
   * is recorded without a check. A `fault` is recorded as its reason.
   */
  async function reschedule (due: Due, longest: number, fault?: string): Promise<void> {
    const { row: { tenant_id: tenantId, token_expires_at: expiresAt, now }, sealed, claim } = due
    const left = timeLeft(expiresAt, now)
    const wait = Math.min(longest, left)
    if (left <= 0) {
      await tokenWatch.record(tenantId, sealed, { valid: false, reason: DATE_PASSED }, claim.claim)
    } else if (fault === undefined) {
      await release(due, wait)
    } else {
      log.warn({ tenant_id: tenantId, reason: fault }, 'a token cannot be checked until somebody mends what is wrong')
      await database.run(unknownQuery(claim, wait, fault))
    }
  }

  function isClosing (err: unknown): boolean {
    // At the closing, calls to Meta are refused shortly before the scheduler is closed.
    return signal.aborted || err instanceof ServiceClosing
  }

  /** Milliseconds until a failed call to Meta is retried. */
  function retryDelay (err: unknown): number {
    const seconds = err instanceof MetaRateLimited ? retryAfterIn(err) : undefined
    return seconds === undefined ? Math.min(interval, RETRY_MS) : seconds * SECOND_MS
  }

  /** Releases a claim: the token is due in `wait` milliseconds. */
  async function release ({ claim }: Due, wait: number): Promise<void> {
    await database.run(releaseQuery(claim, wait))
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
