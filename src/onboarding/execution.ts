import { setTimeout as delay } from 'node:timers/promises'
import { FastifyError } from '@fastify/error'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { updateOnboarding, saveToken, type Db, type OnboardingChange } from './onboardings.sql.js'
import type { OnboardingRow, Step, StepName, TenantConfigRow } from '../database/schema.js'
import { DatabaseUnavailable, Internal } from '../errors.js'
import { adviceFor } from '../meta/advice.js'
import { withStepBegun, isFinal, withStep } from './record.js'
import { mapDatabaseErrors } from '../database/database.js'
import type { MetaApp } from '../meta/meta-graph.js'
import { graphErrorDetails } from '../meta/http-client.js'

/** An onboarding that is being carried on, and what for that is at hand but not stored. */
export interface Execution {
  record: OnboardingRow
  leaseOwner: string
  app: MetaApp
  code?: string | undefined
  redirect_uri?: string | undefined
  pin?: string | undefined
  /** Whether this run has asked Meta about the token. */
  hasInspected?: boolean
  /** The tenant's configuration, once the onboarding is completed. */
  config?: TenantConfigRow
}

/** What a step saw, and what it changes of the record. */
interface StepResult {
  status?: 'done' | 'skipped'
  evidence: Record<string, unknown>
  change?: OnboardingChange
}

/** Thrown when the record is no longer held by the run: somebody else goes on with it, or it has ended. */
export class LeaseLostError extends Error {}

/** How long a token that nobody else has waits for a database that is away. */
export const TOKEN_SAVE_TIMEOUT_MS = 30_000
const TOKEN_RETRY_MS = 250

export type ExecutionRecords = ReturnType<typeof createExecutionRecords>

/** Writes down what becomes of the steps of a run. All methods throw `Overtaken` and `DATABASE_UNAVAILABLE`. */
export function createExecutionRecords ({ orm }: { orm: NodePgDatabase }) {
  async function change (run: Execution, change: OnboardingChange, db: Db = orm): Promise<void> {
    const record = await mapDatabaseErrors(updateOnboarding(db, run.record.id, run.leaseOwner, change))
    if (record === null) throw new LeaseLostError()
    run.record = record
  }

  return {
    change,

    /** Notes that a step begins. */
    begin: async (run: Execution, name: StepName) => { await change(run, { steps: withStepBegun(run.record.steps, name) }) },

    /** Notes that a step is done, in the caller's transaction if there is one. */
    async finish (run: Execution, name: StepName, { status = 'done', evidence, change: further }: StepResult, db?: Db): Promise<void> {
      await change(run, { ...further, steps: withStep(run.record.steps, name, { status, evidence: storable(evidence), error: null }) }, db)
    },

    /** Notes that a step failed, ends the onboarding if nothing else can help, and lets go of it. */
    async fail (run: Execution, name: StepName, err: FastifyError): Promise<void> {
      const error = stepError(err)
      const steps = withStep(run.record.steps, name, { status: 'failed', evidence: evidenceOf(err), error })
      await change(run, { steps, holder: null, ...(isFinal({ name, error }) ? { status: 'failed', access_token: null } : {}) })
    },

    /** Keeps the token that the exchange gave, sealed. It exists nowhere else, so this is tried for as long as a caller may wait. */
    async saveToken (run: Execution, sealed: string, expiresAt: string | null): Promise<void> {
      const evidence = { app_id: run.app.id, expires_at: expiresAt }
      const kept = { access_token: sealed, token_expires_at: expiresAt, steps: withStep(run.record.steps, 'exchange', { status: 'done', evidence, error: null }) }
      const end = Date.now() + TOKEN_SAVE_TIMEOUT_MS
      let record: OnboardingRow | null | undefined
      while (record === undefined) {
        record = await mapDatabaseErrors(saveToken(orm, run.record.id, run.leaseOwner, kept)).catch(async (err: unknown) => {
          if (!(err instanceof DatabaseUnavailable) || Date.now() > end) throw err
          await delay(TOKEN_RETRY_MS)
          return undefined
        })
      }
      if (record === null) throw new LeaseLostError()
      run.record = record
    }
  }
}

function stepError (err: FastifyError): Step['error'] {
  const { meta_code = null, meta_subcode = null, fbtrace_id = null } = graphErrorDetails(err) ?? {}
  return { code: err.code, meta_code, meta_subcode, fbtrace_id, advice: adviceFor(err) }
}

function evidenceOf (err: object): Step['evidence'] {
  return 'phone_numbers' in err ? storable({ phone_numbers: err.phone_numbers }) : null
}

/** The same without what PostgreSQL keeps in no JSON: NUL and lone surrogates, which Meta may send as part of a name. */
function storable<T extends object> (evidence: T): T {
  return JSON.parse(JSON.stringify(evidence, (_key, value) => typeof value === 'string' ? Buffer.from(value.replaceAll('\0', '')).toString() : value))
}

/** What was thrown, if it is one of our errors; else the one for what should not have happened. */
export function toApiError (err: unknown): FastifyError {
  return err instanceof FastifyError ? err : new Internal()
}
