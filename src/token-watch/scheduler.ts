import { setTimeout as pause } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { tokenWatchStatements } from './token-watch.sql.js'
import type { TenantConfigRow } from '../database/schema.js'
import { MetaAppNotConfigured, MetaAppRejected, MetaRateLimited, SecretUnreadable, ServiceClosing } from '../errors.js'
import { retryAfterIn } from '../meta/advice.js'
import { DATE_PASSED, timeLeft } from './state.js'
import { mapDatabaseErrors } from '../database/database.js'
import { createIdentityCheck, type ClaimedIdentity } from './identity-check.js'
import type { MetaApps } from '../meta/apps.js'
import type { MetaApp, MetaGraph } from '../meta/meta-graph.js'
import { graphErrorDetails } from '../meta/http-client.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import { createTokenCheck, type TokenTask } from './check.js'
import type { TokenWatch } from './store.js'
import type { Vault } from '../vault/vault.js'

const SECOND_MS = 1000
const MINUTE_MS = 60 * SECOND_MS

/** How many tokens are claimed at a time. */
const BATCH = 10
/** How often the database is asked for tokens that are due, unless the interval of the checks is shorter. */
const POLL_INTERVAL_MS = 30 * SECOND_MS
/** After what is likely to pass, such as an answer of Meta's that does not come. */
const RETRY_MS = 5 * MINUTE_MS
/** After what somebody must mend. */
const OPERATOR_FAULT_RETRY_MS = 60 * MINUTE_MS
/** For a day after a row was written, its unverified identity is checked this often: the number may be added at Meta yet. */
const UNVERIFIED_RETRY_MS = 60 * MINUTE_MS
const NEW_ROW_AGE_MS = 24 * 60 * MINUTE_MS
/** The share of Meta's limits, in percent, from which on checks become slower, and how slow the last ones are. */
const BUSY_PERCENT = 75
const LONGEST_PAUSE_MS = 5 * SECOND_MS
const CALLS_PER_CHECK = 3

/** A token whose turn has come, and the time of the database then, in Unix milliseconds. */
type Due = Omit<TokenTask, 'app'> & { now: number }

/** An identity that is to be verified, the app to ask with, if Meta takes that, and when the row was written (ISO 8601). */
interface Unverified { identity: ClaimedIdentity, app: MetaApp | undefined, updated_at: string }

/** Why nothing can be known of a token until somebody mends it. */
const FAULTS = [[MetaAppNotConfigured, 'no_app'], [SecretUnreadable, 'unreadable'], [MetaAppRejected, 'app_rejected']] as const

interface TokenSchedulerDependencies {
  orm: NodePgDatabase
  vault: Pick<Vault, 'open' | 'seal'>
  metaApps: MetaApps
  metaGraph: Pick<MetaGraph, 'inspectToken' | 'extendToken' | 'listPhoneNumbers' | 'usage' | 'blockedApps'>
  tokenWatch: Pick<TokenWatch, 'record' | 'extend'>
  tenantConfigs: Pick<TenantConfigs, 'saveVerified'>
  /** Milliseconds between two checks of a token. */
  interval: number
  /** Milliseconds that a call to Meta may take. */
  timeoutMs: number
  log: Pick<FastifyInstance['log'], 'info' | 'warn'>
}

/**
 * Checks stored tokens when `token_watch.next_check_at` says so. Whoever claims a token moves that moment to where the claim ends, so
 * that nobody else checks it meanwhile, and somebody does when the claimant died. Checks of one instance follow one another.
 * A check also verifies the account and the number of a row where they are unverified.
 */
export function createTokenScheduler (dependencies: TokenSchedulerDependencies) {
  const { orm, vault, metaApps, metaGraph, tokenWatch, tenantConfigs, interval, timeoutMs, log } = dependencies
  const statements = tokenWatchStatements(orm)
  const check = createTokenCheck({ vault, metaGraph, tokenWatch, log })
  const verifyIdentity = createIdentityCheck({ vault, metaGraph, tenantConfigs, log })
  const closing = new AbortController()
  const { signal } = closing
  const period = Math.min(POLL_INTERVAL_MS, interval)
  let timer: NodeJS.Timeout | undefined
  let polling = Promise.resolve()

  return {
    /** Looks for due tokens from now on. */
    start,

    /** Begins no check any more, and breaks off the one under way. */
    close (): void {
      closing.abort()
      clearTimeout(timer)
    },

    /** Resolves when nothing is under way any more, a second or two after `close`. */
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

  /** Checks all tokens that are due; returns in how many milliseconds to look again. */
  async function poll (): Promise<number> {
    while (!signal.aborted) {
      const claims = await mapDatabaseErrors(claimTokens())
      const unverified: Unverified[] = []
      for (const claim of claims) {
        // The claim of one whose turn fails ends by itself.
        await unlessFailing(claim.tenant_id, async () => { unverified.push(...await processClaim(claim)) })
      }
      // After the checks: the claims last for the calls of those alone.
      for (const found of unverified) await unlessFailing(found.identity.tenant_id, async () => { await verify(found) })
      if (claims.length < BATCH) break
    }
    return period
  }

  /** Claims due tokens. Those of an app that Meta blocks stay as they are until it takes calls again. */
  async function claimTokens () {
    const lease = BATCH * (CALLS_PER_CHECK * timeoutMs + LONGEST_PAUSE_MS)
    const blocked = metaGraph.blockedApps()
    if (blocked.length === 0) return await statements.claim.execute({ limit: BATCH, lease })
    return await statements.claimUnblocked.execute({ limit: BATCH, lease, blocked, platform: metaApps.platformId ?? '' })
  }

  async function unlessFailing (tenantId: string, work: () => Promise<void>): Promise<void> {
    await work().catch((err: unknown) => { log.warn({ err, tenant_id: tenantId }, 'the check of a token failed; it is tried again') })
  }

  /** Checks the token of a claim. Returns its identity where that is yet to be verified, and may be now. */
  async function processClaim (claim: { tenant_id: string, claim: string }): Promise<Unverified[]> {
    const [row] = await mapDatabaseErrors(statements.claimed.execute(claim))
    if (row === undefined || row.access_token === null) return []
    if (!row.is_active) {
      await mapDatabaseErrors(statements.park.execute(claim))
      return []
    }
    const means = await checkToken({ row, sealed: row.access_token, claim: claim.claim, now: row.now })
    const { tenant_id, waba_id, phone_number_id, updated_at } = row
    if (means === null || row.is_verified || waba_id === null) return []
    return [{ identity: { tenant_id, waba_id, phone_number_id, access_token: means.token }, app: means.app, updated_at }]
  }

  /** Returns what Meta can be asked with about the identity: the token, sealed, and its app; null when it is of no use, or must wait. */
  async function checkToken (due: Due & { row: TenantConfigRow }): Promise<{ token: string, app: MetaApp | undefined } | null> {
    const { row, sealed } = due
    try {
      signal.throwIfAborted()
      const app = metaApps.of(row)
      const { percent, blockedUntil: regainAt } = metaGraph.usage(app.id, row.waba_id)
      if (regainAt > 0) {
        await reschedule(due, regainAt - Date.now())
        return null
      }
      const share = Math.min(1, (percent - BUSY_PERCENT + 1) / (100 - BUSY_PERCENT))
      if (share > 0) await pause(LONGEST_PAUSE_MS * share, undefined, { signal, ref: false })
      const stored = await check({ ...due, app }, unlessClosing)
      return stored === null ? null : { token: stored, app }
    } catch (err) {
      await handleFailure(due, err)
      const lacksApp = err instanceof MetaAppNotConfigured || err instanceof MetaAppRejected
      return lacksApp ? { token: sealed, app: undefined } : null
    }
  }

  /** Verifies an identity. What Meta does not show yet, or does not answer, is asked again before the next check is due. */
  async function verify ({ identity, app, updated_at: updatedAt }: Unverified): Promise<void> {
    const sooner = async (longest: number) => {
      await mapDatabaseErrors(statements.sooner.execute({ tenant_id: identity.tenant_id, wait: Math.min(interval, longest) }))
    }
    try {
      const outcome = await verifyIdentity(identity, app, unlessClosing)
      const isNew = Date.now() - Date.parse(updatedAt) < NEW_ROW_AGE_MS
      if (outcome === 'unlisted' && isNew) await sooner(UNVERIFIED_RETRY_MS)
    } catch (err) {
      if (isClosing(err)) await sooner(0)
      else if (graphErrorDetails(err) !== null) await sooner(retryDelay(err))
      else throw err
    }
  }

  /** Deals with an error that kept a check from finding anything. Throws it when it is neither the tenant's nor Meta's. */
  async function handleFailure (due: Due, err: unknown): Promise<void> {
    const fault = FAULTS.find(([Fault]) => err instanceof Fault)
    if (isClosing(err)) await release(due, 0)
    else if (fault !== undefined) await reschedule(due, Math.min(interval, OPERATOR_FAULT_RETRY_MS), fault[1])
    else if (graphErrorDetails(err) !== null) await reschedule(due, retryDelay(err))
    else throw err
  }

  /**
   * Has a token looked at again in `longest` milliseconds, or when its own date passes. One whose date has passed is over,
   * whatever else is not known; a `fault` leaves nothing else known but that it is dead.
   */
  async function reschedule (due: Due, longest: number, fault?: string): Promise<void> {
    const { row: { tenant_id: tenantId, token_expires_at: expiresAt }, sealed, claim, now } = due
    const left = timeLeft(expiresAt, now)
    const wait = Math.min(longest, left)
    if (left <= 0) {
      await tokenWatch.record(tenantId, sealed, { valid: false, reason: DATE_PASSED }, claim)
    } else if (fault === undefined) {
      await release(due, wait)
    } else {
      log.warn({ tenant_id: tenantId, reason: fault }, 'a token cannot be checked until somebody mends what is wrong')
      await mapDatabaseErrors(statements.unknown.execute({ tenant_id: tenantId, claim, wait, reason: fault }))
    }
  }

  function isClosing (err: unknown): boolean {
    // The calls to Meta are refused a moment before the monitor is closed.
    return signal.aborted || err instanceof ServiceClosing
  }

  /** Milliseconds until a call to Meta that failed is made again. */
  function retryDelay (err: unknown): number {
    const seconds = err instanceof MetaRateLimited ? retryAfterIn(err) : undefined
    return seconds === undefined ? Math.min(interval, RETRY_MS) : seconds * SECOND_MS
  }

  /** Gives a claim up: the token is due in `wait` milliseconds. */
  async function release ({ row, claim }: Due, wait: number): Promise<void> {
    await mapDatabaseErrors(statements.release.execute({ tenant_id: row.tenant_id, claim, wait }))
  }

  /** Makes a call and waits for it, but not beyond the closing. */
  async function unlessClosing<T> (call: () => Promise<T>): Promise<T> {
    signal.throwIfAborted()
    return await new Promise((resolve, reject) => {
      const stop = () => { reject(signal.reason) }
      signal.addEventListener('abort', stop, { once: true })
      call().then(resolve, reject).finally(() => { signal.removeEventListener('abort', stop) })
    })
  }
}

/** Runs the monitor from the moment the server is ready until it closes. */
async function tokenScheduler (fastify: FastifyInstance): Promise<void> {
  const { database, vault, metaApps, metaGraph, tokenWatch, tenantConfigs, env, log } = fastify
  const { TOKEN_CHECK_INTERVAL_MS: interval, GRAPH_TIMEOUT_MS: timeoutMs } = env
  const monitor = createTokenScheduler({
    orm: database.orm, vault, metaApps, metaGraph, tokenWatch, tenantConfigs, interval, timeoutMs, log
  })
  fastify.addHook('onReady', async () => { monitor.start() })
  fastify.addHook('preClose', async () => { monitor.close() })
  // Before the hook of the database, which was registered earlier.
  fastify.addHook('onClose', async () => { await monitor.closed() })
}

export default fp(tokenScheduler, { name: 'token-monitor', dependencies: ['env', 'database', 'vault', 'meta-apps', 'meta-graph', 'token-watch', 'onboarding'] })
