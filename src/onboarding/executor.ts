import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { FastifyBaseLogger } from 'fastify'
import { changeOnboarding, type OnboardingChange } from './onboardings.sql.js'
import type { StepName } from '../database/schema.js'
import { DatabaseUnavailable, ServiceClosing } from '../errors.js'
import { isFinished, stepOf } from './record.js'
import { stepNames } from '../schemas/statuses.js'
import type { Outcome } from './lease.js'
import { asOurs, Overtaken, type Run, type RunRecords } from './execution.js'

// Several times within the hold of a record, see onboardings.sql.ts.
const RENEW_MS = 1500

interface RunnerDependencies {
  orm: NodePgDatabase
  records: RunRecords
  steps: Record<StepName, (run: Run) => Promise<void>>
  closing: AbortSignal
  log: Pick<FastifyBaseLogger, 'debug'>
}

/** Takes runs through the steps that are left of them. */
export function createOnboardingRunner ({ orm, records, steps, closing, log }: RunnerDependencies) {
  return { carryOn }

  /**
   * Carries out what is left of a run, after a first change to its record. When the service closes, it stops before the next step or call
   * to Meta and releases the record, so that another process can go on at once.
   * Throws `Overtaken`, `SERVICE_CLOSING`, and what keeps a step from being done.
   */
  async function carryOn (run: Run, change: OnboardingChange = {}): Promise<Outcome> {
    const renewing = setInterval(() => {
      changeOnboarding(orm, run.record.id, run.holder, {}).catch((err: unknown) => { log.debug({ err }, 'the hold on an onboarding was not renewed') })
    }, RENEW_MS).unref()
    try {
      await records.change(run, change)
      for (const name of stepNames) {
        if (!isFinished(stepOf(run.record, name))) await carryOut(run, name)
      }
    } finally {
      clearInterval(renewing)
    }
    if (run.config === undefined) throw new Error('an onboarding ended without a configuration')
    return { created: stepOf(run.record, 'store').evidence?.['is_new'] === true, config: run.config }
  }

  /** Carries out a step, and writes down what keeps it from being done. */
  async function carryOut (run: Run, name: StepName): Promise<void> {
    const before = run.record.steps
    try {
      closing.throwIfAborted()
      await records.begin(run, name)
      await steps[name](run)
    } catch (err) {
      if (err instanceof ServiceClosing) await release(run, before)
      // A database that is away cannot be told; the hold ends by itself.
      else if (!(err instanceof Overtaken || err instanceof DatabaseUnavailable)) await records.fail(run, name, asOurs(err))
      throw err
    }
  }

  /** Gives a record back as it was before a step that did not get to Meta: above all, a code that was not sent may be sent by another process. */
  async function release (run: Run, before: Run['record']['steps']): Promise<void> {
    await records.change(run, { steps: before, holder: null }).catch((err: unknown) => { log.debug({ err }, 'an onboarding was not released') })
  }
}
