import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import type { OnboardingRow, Step } from '../database/schema/onboardings.js'
import type { Queryable } from '../database/statement.js'
import { ConfigNotFound, OnboardingNotFound, OnboardingUnderWay } from '../errors.js'
import type { TaggedRow, TenantConfigs } from '../tenant-configs/tenant-configs.js'
import { createSharedWork } from '../waiting/shared-work.js'
import { maxWaitMs } from '../waiting/wait-for.js'
import { acquireLease, onboardingById, updateOnboarding, type OnboardingState } from './onboardings.sql.js'
import type { Outcomes } from './outcomes.js'
import { failedStep, isCodeUnderWay, isEnd, stepFailure } from './record.js'

/** The tenant's configuration, and whether this onboarding created it. */
export interface OnboardingResult { created: boolean, config: TaggedRow }

/** A request that waits for the result of an onboarding. */
export interface Waiter {
  /** Aborted when the client has left. */
  client: AbortSignal
  /** When a request came that waited in its tenant's queue (ISO 8601): a failure since then answers it. */
  queuedAt?: string | undefined
}

/** Thrown when the lease of a record is lost: another process executes it, or it has ended. */
export class LeaseLostError extends Error {}

/** A record whose lease this process owns. */
export interface Lease { record: OnboardingRow, leaseOwner: string }

// Well below the 5 seconds of the lease in onboardings.sql.ts.
const RENEW_MS = 1500
const POLL_MS = 100

/** Creates the id of a lease owner. */
export const newLeaseOwner = () => randomUUID()

/** Leases an unfinished record that no process executes; null when one does, or when it has ended. */
export async function lease (database: Queryable, id: string): Promise<Lease | null> {
  const leaseOwner = newLeaseOwner()
  const record = await acquireLease(database, id, leaseOwner)
  return record === null ? null : { record, leaseOwner }
}

/** Renews a lease until the returned function is called. */
export function keepLease (
  database: Queryable, { record, leaseOwner }: Lease, log: Pick<FastifyBaseLogger, 'debug'>
): () => void {
  const renewing = setInterval(() => {
    updateOnboarding(database, record.id, leaseOwner, {}).catch((err: unknown) => {
      log.debug({ err }, 'the hold on an onboarding was not renewed')
    })
  }, RENEW_MS).unref()
  return () => { clearInterval(renewing) }
}

interface AwaitOutcomeDependencies {
  database: Queryable
  tenantConfigs: Pick<TenantConfigs, 'find'>
  outcomes: Pick<Outcomes, 'failLostExchange'>
  closing: AbortSignal
  /** Milliseconds that a call of the Graph API may take. */
  timeoutMs: number
}

/** Returns `awaitOutcome`, which waits for the result of an onboarding. */
export function createAwaitOutcome (
  { database, tenantConfigs, outcomes, closing, timeoutMs }: AwaitOutcomeDependencies
) {
  const poll = createSharedWork<OnboardingState | null>()

  /**
   * Waits until no process executes the onboarding, and returns the result of its record. If unfinished, calls
   * `proceed` (null: another process holds the lease). A request that has waited gets the failure of the other one:
   * many at once call Meta once.
   *
   * @throws OnboardingUnderWay when it is still executed after `maxWaitMs`; ServiceClosing; the reason of
   * `waiter.client`; the failure of the onboarding; ConfigNotFound, OnboardingNotFound when the configuration or the
   * record is gone
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
      const isEnded = failed !== undefined && isEnd(failed, record)
      if (record.status === 'failed') throw stepFailure(isEnded ? failed : undefined)
      if (record.isLeased) {
        record = await waitUntilReleased(record.id, waiter.client, end - performance.now())
        hasWaited = true
        continue
      }
      // While a process executes the onboarding, the failed step may be running again.
      if (failed !== undefined && (hasWaited || isSince(failed, waiter))) throw stepFailure(failed)
      if (isCodeUnderWay(record)) {
        await outcomes.failLostExchange(record)
      } else {
        const result = await proceed(record)
        if (result !== null) return result
      }
      record = await onboardingById(database, record.id)
    }
    throw new OnboardingNotFound()
  }

  /** Waits for a poll of the record, which all its waiters share. */
  async function waitUntilReleased (id: string, client: AbortSignal, ms: number): Promise<OnboardingState | null> {
    const limit = { ms, TimeoutError: OnboardingUnderWay }
    const { result } = await poll(id, async (signal) => await pollUntilReleased(id, signal), [client, closing], limit)
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
      record = await onboardingById(database, id)
    } while (record?.isLeased === true)
    return record
  }
}

function isSince ({ at }: Step, { queuedAt }: Waiter): boolean {
  return at !== null && queuedAt !== undefined && at > queuedAt
}
