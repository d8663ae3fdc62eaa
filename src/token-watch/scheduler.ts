import type { FastifyBaseLogger } from 'fastify'
import type { MetaGraph } from '../meta/meta-graph.js'
import { createSlots } from '../waiting/slots.js'
import { sharedController } from '../waiting/wait-for.js'
import { createClaimedCheck, MAX_PAUSE_MS, type ClaimedCheckDependencies } from './claimed-check.js'
import { claimQuery, claimUnblockedQuery, MAX_CLAIMED, type Claim } from './token-watch.sql.js'

const SECOND_MS = 1000

/** Between two polls for due tokens, unless the interval of the checks is shorter. */
const POLL_INTERVAL_MS = 30 * SECOND_MS
/** The calls of a check that follow each other: `debug_token`, the extension, `debug_token` of the new token. */
const CALLS_IN_TURN = 3
/** The time for the statements of a check. */
const STATEMENTS_MS = 10 * SECOND_MS

interface TokenSchedulerDependencies extends Omit<ClaimedCheckDependencies, 'signal'> {
  metaGraph: ClaimedCheckDependencies['metaGraph'] & Pick<MetaGraph, 'platformAppId' | 'blockedApps'>
  /** The checks that run at once. */
  concurrency: number
  /** Milliseconds that a call to Meta may take. */
  timeoutMs: number
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
}

/**
 * Checks stored tokens at their `token_watch.next_check_at`. A claim moves that time to the end of the claim: no other
 * process checks the token before, and one does if the claimant dies. A check also tells the state of the number, and
 * verifies an unverified identity.
 */
export function createTokenScheduler (dependencies: TokenSchedulerDependencies) {
  const { database, metaGraph, interval, concurrency, timeoutMs, log } = dependencies
  // Each check adds listeners.
  const closing = sharedController()
  const { signal } = closing
  const checkClaimed = createClaimedCheck({ ...dependencies, signal })
  const slots = createSlots(concurrency)
  const period = Math.min(POLL_INTERVAL_MS, interval)
  const batch = Math.min(concurrency, MAX_CLAIMED)
  // A claim waits for a slot at most as long as the checks take that run then: there is a slot for each.
  const lease = 2 * (CALLS_IN_TURN * timeoutMs + MAX_PAUSE_MS + STATEMENTS_MS)
  let timer: NodeJS.Timeout | undefined
  let polling = Promise.resolve()

  return {
    /** Starts to poll for due tokens. */
    start,

    /** Starts no more checks, and aborts the running ones. */
    close (): void {
      closing.abort()
      clearTimeout(timer)
    },

    /** Resolves when no check runs, within two seconds of `close`. */
    async closed (): Promise<void> {
      await polling
      await slots.idle()
    }
  }

  function start (): void {
    polling = poll().catch((err: unknown) => {
      log.warn({ err }, 'the token monitor could not look for tokens that are due; it tries again')
      return Math.max(period, SECOND_MS)
    }).then((wait) => {
      if (!signal.aborted) timer = setTimeout(start, wait).unref()
    })
  }

  /**
   * Starts the checks of all due tokens, and does not wait for the last ones. Returns the milliseconds until the next
   * poll.
   */
  async function poll (): Promise<number> {
    while (!signal.aborted) {
      const claims = await claimTokens()
      for (const claim of claims) await slots.start(async () => { await checkOrLog(claim) })
      if (claims.length < batch) break
    }
    return period
  }

  /** Claims due tokens, without those of an app that Meta blocks. */
  async function claimTokens (): Promise<Claim[]> {
    const blocked = metaGraph.blockedApps()
    return await database.run(blocked.length === 0
      ? claimQuery(batch, lease)
      : claimUnblockedQuery(batch, lease, blocked, metaGraph.platformAppId ?? ''))
  }

  /** Checks the token of a claim. The claim of a check that fails ends by itself. */
  async function checkOrLog (claim: Claim): Promise<void> {
    await checkClaimed(claim).catch((err: unknown) => {
      log.warn({ err, tenant_id: claim.tenant_id }, 'the check of a token failed; it is tried again')
    })
  }
}
