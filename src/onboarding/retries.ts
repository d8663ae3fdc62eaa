import type { FastifyBaseLogger } from 'fastify'
import type { Database } from '../database/database.js'
import { Internal } from '../errors.js'
import { stepNames } from '../schemas/statuses.js'
import { createPoller } from '../waiting/poller.js'
import type { createExecutor } from './executor.js'
import type { createGrantedApp } from './granted-app.js'
import { newLeaseOwner } from './lease.js'
import {
  acquireDue, lostExchanges, postponeOnboarding, updateOnboarding, type DueOnboarding
} from './onboardings.sql.js'
import type { Outcomes } from './outcomes.js'
import { isFinished, RETRIES_ENDED, stepOf, withStep } from './record.js'

const PERIOD_MS = 5000
const LOST_EXCHANGE_PERIOD_MS = 60_000
/** Onboardings that a process retries at once. */
const MAX_CONCURRENT = 4

interface RetryDependencies {
  database: Pick<Database, 'run' | 'count' | 'transaction'>
  grantedApp: ReturnType<typeof createGrantedApp>
  execute: ReturnType<typeof createExecutor>
  outcomes: Outcomes
  closing: AbortSignal
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
}

/**
 * Continues onboardings that no request continues: those with a token whose last fault was passing, or whose executor
 * died. They are retried for 24 hours after the first fault. Any number of processes may do so at once.
 */
export function createRetries ({ database, grantedApp, execute, outcomes, closing, log }: RetryDependencies) {
  let lostExchangesDueAt = 0
  return createPoller({ periodMs: PERIOD_MS, work: retryAll })

  async function retryAll (): Promise<void> {
    try {
      await failLostExchanges()
      // Without a due record, a poll is one statement.
      if (await retryNext()) await Promise.all(Array.from({ length: MAX_CONCURRENT }, retryDue))
    } catch (err) {
      log.warn({ err }, 'onboardings could not be continued; the next poll tries again')
    }
  }

  async function failLostExchanges (): Promise<void> {
    if (Date.now() < lostExchangesDueAt) return
    for (const record of await lostExchanges(database)) await outcomes.failLostExchange(record)
    lostExchangesDueAt = Date.now() + LOST_EXCHANGE_PERIOD_MS
  }

  async function retryDue (): Promise<void> {
    while (await retryNext());
  }

  /** Retries one record; returns false when none is due, or the service closes. */
  async function retryNext (): Promise<boolean> {
    if (closing.aborted) return false
    const leaseOwner = newLeaseOwner()
    const record = await acquireDue(database, leaseOwner)
    if (record === null) return false
    if (record.isOverdue) await endRetries(record, leaseOwner)
    else await retry(record, leaseOwner)
    return true
  }

  async function retry (record: DueOnboarding, leaseOwner: string): Promise<void> {
    const about = { onboarding: record.id, tenant_id: record.tenant_id }
    try {
      const app = await grantedApp(record)
      await execute({ record, leaseOwner, app, isUnattended: true })
      log.info(about, 'an onboarding was completed without a request')
    } catch (err) {
      log.info({ err, ...about }, 'an onboarding was not completed without a request')
      // The executor has released the record after the failure of a step: then this changes nothing.
      await postponeOnboarding(database, record.id, leaseOwner, record.steps, 0)
    }
  }

  /** Ends an onboarding that was retried for long enough, with its last error. */
  async function endRetries ({ id, tenant_id: tenantId, steps }: DueOnboarding, leaseOwner: string): Promise<void> {
    const last = stepOf({ steps }, stepNames.find((name) => !isFinished(stepOf({ steps }, name))) ?? 'done')
    const { code, message: advice } = new Internal()
    const error = last.error ?? { code, meta_code: null, meta_subcode: null, fbtrace_id: null, advice }
    const ended = withStep(steps, last.name, { status: 'failed', error, evidence: RETRIES_ENDED })
    const change = { status: 'failed', steps: ended, access_token: null, former: null, holder: null } as const
    await outcomes.report(tenantId, { to: 'failed', reason: error.code }, async (tx) =>
      await updateOnboarding(tx, id, leaseOwner, change) !== null)
  }
}
