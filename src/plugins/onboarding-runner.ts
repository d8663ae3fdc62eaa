import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { FastifyBaseLogger } from 'fastify'
import { changeOnboarding, type OnboardingChange } from '../db/onboardings.js'
import { stepNames, type StepName, type TenantConfigRow } from '../db/schema.js'
import { DatabaseUnavailable } from '../errors.js'
import { isFinished, stepOf } from '../onboarding-record.js'
import { asOurs, Overtaken, type Run, type RunRecords } from './onboarding-run.js'

/** The tenant's configuration, and whether this onboarding made it. */
export interface Outcome { created: boolean, config: TenantConfigRow }

// Several times within the hold of a record, see db/onboardings.ts.
const RENEW_MS = 1500

/** Takes runs through the steps that are left of them. */
export function createOnboardingRunner ({ orm, records, steps, log }: {
  orm: NodePgDatabase
  records: RunRecords
  steps: Record<StepName, (run: Run) => Promise<void>>
  log: Pick<FastifyBaseLogger, 'debug'>
}) {
  const underWay = new Set<Promise<unknown>>()

  return {
    /** Carries out what is left of a run, after a first change to its record. Throws `Overtaken`, and what keeps a step from being done. */
    async carryOn (run: Run, change: OnboardingChange = {}): Promise<Outcome> {
      const carrying = carryOn(run, change).finally(() => { underWay.delete(carrying) })
      underWay.add(carrying)
      return await carrying
    },

    /** Resolves when no run is under way. */
    async settled (): Promise<void> {
      await Promise.allSettled(underWay)
    }
  }

  async function carryOn (run: Run, change: OnboardingChange): Promise<Outcome> {
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
    await records.begin(run, name)
    try {
      await steps[name](run)
    } catch (err) {
      // A database that is away cannot be told; the hold ends by itself.
      if (!(err instanceof Overtaken || err instanceof DatabaseUnavailable)) await records.fail(run, name, asOurs(err))
      throw err
    }
  }
}
