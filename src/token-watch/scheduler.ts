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

/** How many tokens are claimed at a time. */
const BATCH = 10
/** How often the database is polled for tokens that are due, unless the interval of the checks is shorter. */
const POLL_INTERVAL_MS = 30 * SECOND_MS
/** The delay after a failure that is likely to pass, such as a timeout of Meta. */
const RETRY_MS = 5 * MINUTE_MS
/** The delay after a fault that an operator or the tenant must correct. */
const OPERATOR_FAULT_RETRY_MS = 60 * MINUTE_MS
/** For a day after a row was written, its unverified identity is checked this often: the number may be added at Meta yet. */
const UNVERIFIED_RETRY_MS = 60 * MINUTE_MS
const NEW_ROW_AGE_MS = 24 * 60 * MINUTE_MS
/** From this utilization of Meta's limits on, in percent, checks become slower; at 100 % each is preceded by the pause. */
const BUSY_PERCENT = 75
const MAX_PAUSE_MS = 5 * SECOND_MS
const CALLS_PER_CHECK = 3

/** A claimed token: its row, its ciphertext and its claim. */
interface Due { row: ClaimedRow, sealed: string, claim: Claim }

/** An identity to verify, the app to ask with (undefined: the token alone), and when the row was written (ISO 8601). */
interface Unverified { identity: ClaimedIdentity, app: MetaApp | undefined, updated_at: string }

/** Faults that keep a token from being checked until somebody corrects them, with the reason that is recorded. */
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
 * Checks stored tokens when `token_watch.next_check_at` says so. A claim moves that moment to where the claim ends: nobody
 * else checks the token until then, and somebody does when the claimant died. Checks of one instance follow one another. A
 * check also verifies the account and the number of a row where they are unverified.
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
    /** Polls for due tokens from now on. */
    start,

    /** Starts no check any more, and aborts the running one. */
    close (): void {
      closing.abort()
      clearTimeout(timer)
    },

    /** Resolves when nothing runs any more, a second or two after `close`. */
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

  /** Checks all tokens that are due; returns the milliseconds until the next poll. */
  async function poll (): Promise<number> {
    while (!signal.aborted) {
      const claims = await claimTokens()
      const unverified: Unverified[] = []
      for (const claim of claims) {
        // The claim of a check that fails ends by itself.
        await logFailure(claim.tenant_id, async () => { unverified.push(...await processClaim(claim)) })
      }
      // After the checks: the claims last for the calls of those alone.
      for (const found of unverified) await logFailure(found.identity.tenant_id, async () => { await verify(found) })
      if (claims.length < BATCH) break
    }
    return period
  }

  /** Claims due tokens. Those of an app that Meta blocks stay as they are until it takes calls again. */
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

  /** Checks the token of a claim. Returns its identity where that is yet to be verified, and may be now. */
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

  /** Returns what Meta can be asked with about the identity: the token, sealed, and its app; null when it must wait. */
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
      const share = Math.min(1, (percent - BUSY_PERCENT + 1) / (100 - BUSY_PERCENT))
      if (share > 0) await pause(MAX_PAUSE_MS * share, undefined, { signal, ref: false })
      const stored = await checkToken({ row, sealed, app, claim }, callMeta)
      return stored === null ? null : { token: stored, app }
    } catch (err) {
      await handleFailure(due, err)
      const lacksApp = err instanceof MetaAppNotConfigured || err instanceof MetaAppRejected
      return lacksApp ? { token: sealed, app: undefined } : null
    }
  }

  /** Verifies an identity. What Meta does not show yet, or does not answer, is asked again before the next check is due. */
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

  /** Reschedules a token whose check has no result. Throws the error when it is neither the tenant's nor Meta's. */
  async function handleFailure (due: Due, err: unknown): Promise<void> {
    const fault = FAULTS.find(([Fault]) => err instanceof Fault)
    if (isClosing(err)) await release(due, 0)
    else if (fault !== undefined) await reschedule(due, Math.min(interval, OPERATOR_FAULT_RETRY_MS), fault[1])
    else if (graphErrorDetails(err) !== null) await reschedule(due, retryDelay(err))
    else throw err
  }

  /**
   * Has a token checked again in `longest` milliseconds, or when its own date passes. A token whose date has passed is
   * expired without a check. A `fault` is recorded as its reason.
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
    // The calls to Meta are refused a moment before the scheduler is closed.
    return signal.aborted || err instanceof ServiceClosing
  }

  /** Milliseconds until a call to Meta that failed is made again. */
  function retryDelay (err: unknown): number {
    const seconds = err instanceof MetaRateLimited ? retryAfterIn(err) : undefined
    return seconds === undefined ? Math.min(interval, RETRY_MS) : seconds * SECOND_MS
  }

  /** Gives a claim up: the token is due in `wait` milliseconds. */
  async function release ({ claim }: Due, wait: number): Promise<void> {
    await database.run(releaseQuery(claim, wait))
  }

  /** Makes a call and waits for it, but not beyond the closing. */
  async function callMeta<T> (call: () => Promise<T>): Promise<T> {
    signal.throwIfAborted()
    return await new Promise((resolve, reject) => {
      const stop = () => { reject(signal.reason) }
      signal.addEventListener('abort', stop, { once: true })
      call().then(resolve, reject).finally(() => { signal.removeEventListener('abort', stop) })
    })
  }
}
