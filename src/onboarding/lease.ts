import { setTimeout as delay } from 'node:timers/promises'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { failUnknownExchange, onboardingById, type OnboardingState } from './onboardings.sql.js'
import type { OnboardingRow, Step, TenantConfigRow } from '../database/schema.js'
import { ConfigNotFound, MetaExchangeUnknown, OnboardingNotFound, OnboardingUnderWay } from '../errors.js'
import { stepFailure, failedStep, isCodeUnderWay, isFinal, withStep } from './record.js'
import { createSharedWork } from '../waiting/shared-work.js'
import { maxWaitMs } from '../waiting/wait-for.js'
import { mapDatabaseErrors } from '../database/database.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'

/** The tenant's configuration, and whether this onboarding made it. */
export interface OnboardingResult { created: boolean, config: TenantConfigRow }

/** A request that wants the outcome of an onboarding. */
export interface Waiter {
  /** Aborted when nobody waits any more. */
  client: AbortSignal
  /** When the request came (ISO 8601), if it has waited in its tenant's queue: a failure since then is its own. */
  queuedAt?: string | undefined
}

const POLL_MS = 100

interface OutcomeDependencies {
  orm: NodePgDatabase
  tenantConfigs: Pick<TenantConfigs, 'find'>
  closing: AbortSignal
  /** Milliseconds that a call of the Graph API may take. */
  timeoutMs: number
}

/** Returns `awaitOutcome`. */
export function createAwaitOutcome ({ orm, tenantConfigs, closing, timeoutMs }: OutcomeDependencies) {
  const poll = createSharedWork<OnboardingState | null>()

  /**
   * Waits until nobody executes the onboarding, and answers from its record. If it has not ended, calls `proceed` (which returns null when
   * another process was faster). A request that has waited takes the failure of the other one: many at once call Meta once.
   *
   * @throws OnboardingUnderWay when it is still executed after `maxWaitMs`; ServiceClosing; the reason of `waiter.client`; what the
   * onboarding failed with; ConfigNotFound, OnboardingNotFound when the configuration or the record is gone
   */
  return async function awaitOutcome (
    found: OnboardingState, waiter: Waiter, proceed: (record: OnboardingRow) => Promise<OnboardingResult | null>
  ): Promise<OnboardingResult> {
    const end = performance.now() + maxWaitMs(timeoutMs)
    let hasWaited = false
    let record: OnboardingState | null = found
    while (record !== null) {
      if (record.status === 'completed') return await completed(record)
      const failed = failedStep(record)
      if (record.status === 'failed') throw stepFailure(failed !== undefined && isFinal(failed) ? failed : undefined)
      if (record.isLeased) {
        record = await waitUntilReleased(record.id, waiter.client, end - performance.now())
        hasWaited = true
        continue
      }
      // Only an onboarding that nobody executes is known not to be about to try the failed step again.
      if (failed !== undefined && (hasWaited || isSince(failed, waiter))) throw stepFailure(failed)
      if (isCodeUnderWay(record)) {
        await endUnknownExchange(record)
      } else {
        const outcome = await proceed(record)
        if (outcome !== null) return outcome
      }
      record = await mapDatabaseErrors(onboardingById(orm, record.id))
    }
    throw new OnboardingNotFound()
  }

  /** Waits for a poll of the record that all its waiters share. */
  async function waitUntilReleased (id: string, client: AbortSignal, ms: number): Promise<OnboardingState | null> {
    const { result } = await poll(id, async (signal) => await pollUntilReleased(id, signal), [client, closing], { ms, TimeoutError: OnboardingUnderWay })
    return result
  }

  async function completed ({ tenant_id: tenantId }: OnboardingRow): Promise<OnboardingResult> {
    const config = await tenantConfigs.find(tenantId)
    if (config === null) throw new ConfigNotFound()
    return { created: false, config }
  }

  async function pollUntilReleased (id: string, signal: AbortSignal): Promise<OnboardingState | null> {
    let record: OnboardingState | null
    do {
      await delay(POLL_MS, undefined, { signal })
      record = await mapDatabaseErrors(onboardingById(orm, id))
    } while (record?.isLeased === true)
    return record
  }

  /** Ends an onboarding whose executor vanished while the code was on its way to Meta. */
  async function endUnknownExchange ({ id, steps }: OnboardingRow): Promise<void> {
    const unknown = new MetaExchangeUnknown()
    const error = { code: unknown.code, meta_code: null, meta_subcode: null, fbtrace_id: null, advice: unknown.message }
    await mapDatabaseErrors(failUnknownExchange(orm, id, withStep(steps, 'exchange', { status: 'failed', error })))
  }
}

function isSince ({ at }: Step, { queuedAt }: Waiter): boolean {
  return at !== null && queuedAt !== undefined && at > queuedAt
}
