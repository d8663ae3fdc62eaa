import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { FastifyBaseLogger } from 'fastify'
import { updateOnboarding, type OnboardingChange } from './onboardings.sql.js'
import type { StepName } from '../database/schema.js'
import { DatabaseUnavailable, ServiceClosing } from '../errors.js'
import { isFinished, stepOf } from './record.js'
import { stepNames } from '../schemas/statuses.js'
import type { OnboardingResult } from './lease.js'
import { toApiError, LeaseLostError, type Execution, type ExecutionRecords } from './execution.js'

// Several times within the hold of a record, see onboardings.sql.ts.
const RENEW_MS = 1500

interface ExecutorDependencies {
  orm: NodePgDatabase
  records: ExecutionRecords
  steps: Record<StepName, (run: Execution) => Promise<void>>
  closing: AbortSignal
  log: Pick<FastifyBaseLogger, 'debug'>
}

/** Takes runs through the steps that are left of them. */
export function createExecutor ({ orm, records, steps, closing, log }: ExecutorDependencies) {
  return { execute }

  /**
   * Carries out what is left of a run, after a first change to its record. When the service closes, it stops before the next step or call
   * to Meta and releases the record, so that another process can go on at once.
   * Throws `Overtaken`, `SERVICE_CLOSING`, and what keeps a step from being done.
   */
  async function execute (execution: Execution, change: OnboardingChange = {}): Promise<OnboardingResult> {
    const renewing = setInterval(() => {
      updateOnboarding(orm, execution.record.id, execution.leaseOwner, {}).catch((err: unknown) => { log.debug({ err }, 'the hold on an onboarding was not renewed') })
    }, RENEW_MS).unref()
    try {
      await records.change(execution, change)
      for (const name of stepNames) {
        if (!isFinished(stepOf(execution.record, name))) await executeStep(execution, name)
      }
    } finally {
      clearInterval(renewing)
    }
    if (execution.config === undefined) throw new Error('an onboarding ended without a configuration')
    return { created: stepOf(execution.record, 'store').evidence?.['is_new'] === true, config: execution.config }
  }

  /** Carries out a step, and writes down what keeps it from being done. */
  async function executeStep (execution: Execution, name: StepName): Promise<void> {
    const before = execution.record.steps
    try {
      closing.throwIfAborted()
      await records.begin(execution, name)
      await steps[name](execution)
    } catch (err) {
      if (err instanceof ServiceClosing) await release(execution, before)
      // A database that is away cannot be told; the hold ends by itself.
      else if (!(err instanceof LeaseLostError || err instanceof DatabaseUnavailable)) await records.fail(execution, name, toApiError(err))
      throw err
    }
  }

  /** Gives a record back as it was before a step that did not get to Meta: above all, a code that was not sent may be sent by another process. */
  async function release (execution: Execution, before: Execution['record']['steps']): Promise<void> {
    await records.change(execution, { steps: before, holder: null }).catch((err: unknown) => { log.debug({ err }, 'an onboarding was not released') })
  }
}
