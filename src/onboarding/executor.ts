import { setTimeout as delay } from 'node:timers/promises'
import { FastifyError } from '@fastify/error'
import type { FastifyBaseLogger } from 'fastify'
import type { OnboardingRow, Step } from '../database/schema/onboardings.js'
import type { Queryable } from '../database/statement.js'
import { DatabaseUnavailable, graphErrorDetails, Internal, ServiceClosing } from '../errors.js'
import { adviceFor, retryAfterIn } from '../meta/advice.js'
import type { MetaApp } from '../meta/types.js'
import { stepNames, type StepName } from '../schemas/statuses.js'
import type { TaggedRow } from '../tenant-configs/tenant-configs.js'
import { keepLease, LeaseLostError, type OnboardingResult } from './lease.js'
import { postponeOnboarding, saveToken, updateOnboarding, type OnboardingChange } from './onboardings.sql.js'
import type { Outcomes } from './outcomes.js'
import { awaited, isFinal, isFinished, isRetried, stepOf, withStep, withStepBegun } from './record.js'

/** An onboarding that this process executes, with the values of the request that are not stored. */
export interface Execution {
  record: OnboardingRow
  leaseOwner: string
  app: MetaApp
  code?: string | undefined
  redirect_uri?: string | undefined
  pin?: string | undefined
  /** Whether no request waits for the outcome. */
  isUnattended?: boolean
  /** Meta's answer about the token, once this execution has inspected it. */
  inspected?: { data_access_ends_at: string | null | undefined }
  /** The tenant's configuration, once the onboarding is completed. */
  config?: TaggedRow
}

/** The evidence of a finished step, and its other changes of the record. */
interface StepResult {
  status?: 'done' | 'skipped'
  evidence: Record<string, unknown>
  change?: OnboardingChange
}

/** Records the progress of a step. Both methods throw `LeaseLostError` and `DATABASE_UNAVAILABLE`. */
export interface Progress {
  /** Records the result of the step, in the caller's transaction if there is one. */
  finish: (result: StepResult, tx?: Queryable) => Promise<void>
  /** Saves the granted token, sealed. It exists nowhere else, so the write is retried while the database is down. */
  saveToken: (sealed: string, expiresAt: string | null) => Promise<void>
}

/** The function of every step: it calls `progress`, or throws. */
export type Steps = Record<StepName, (execution: Execution, progress: Progress) => Promise<void>>

/** How long the write of a granted token is retried while the database is down. */
export const TOKEN_SAVE_TIMEOUT_MS = 30_000
const TOKEN_RETRY_MS = 250

interface ExecutorDependencies {
  database: Queryable
  steps: Steps
  outcomes: Pick<Outcomes, 'report'>
  closing: AbortSignal
  log: Pick<FastifyBaseLogger, 'debug'>
}

/** Returns `execute`, which executes the unfinished steps of an onboarding. */
export function createExecutor ({ database, steps, outcomes, closing, log }: ExecutorDependencies) {
  /**
   * Applies `change` to the record, then executes the unfinished steps. When the service closes, it stops before the
   * next step or call to Meta and releases the lease, and another process can continue at once.
   *
   * @throws LeaseLostError, `SERVICE_CLOSING`, and the error of a failed step
   */
  return async function execute (execution: Execution, change: OnboardingChange = {}): Promise<OnboardingResult> {
    const stopRenewing = keepLease(database, execution, log)
    try {
      await update(execution, change)
      for (const name of stepNames) {
        if (!isFinished(stepOf(execution.record, name))) await executeStep(execution, name)
      }
    } finally {
      stopRenewing()
    }
    if (execution.config === undefined) throw new Error('an onboarding ended without a configuration')
    const isNew = stepOf(execution.record, 'store').evidence?.['is_new'] === true
    return { created: isNew, config: execution.config }
  }

  async function executeStep (execution: Execution, name: StepName): Promise<void> {
    const before = execution.record.steps
    try {
      closing.throwIfAborted()
      await update(execution, { steps: withStepBegun(before, name) })
      await steps[name](execution, {
        finish: async (result, tx) => { await finish(execution, name, result, tx) },
        saveToken: async (sealed, expiresAt) => { await saveGrantedToken(execution, sealed, expiresAt) }
      })
    } catch (err) {
      // While the database is down nothing can be recorded; the lease ends by itself.
      const isRecordable = !(err instanceof LeaseLostError || err instanceof DatabaseUnavailable)
      if (err instanceof ServiceClosing) await release(execution, before)
      else if (isRecordable) await fail(execution, name, toApiError(err))
      throw err
    }
  }

  async function update (execution: Execution, change: OnboardingChange, tx: Queryable = database): Promise<void> {
    const record = await updateOnboarding(tx, execution.record.id, execution.leaseOwner, change)
    if (record === null) throw new LeaseLostError()
    execution.record = record
  }

  async function finish (
    execution: Execution, name: StepName, { status = 'done', evidence, change }: StepResult, tx?: Queryable
  ): Promise<void> {
    const steps = withStep(execution.record.steps, name, { status, evidence: storable(evidence), error: null })
    await update(execution, { ...change, steps }, tx)
  }

  /**
   * Records the error of a step and releases the lease. A passing fault is retried later; after any other the
   * onboarding ends, or waits for a request.
   */
  async function fail (execution: Execution, name: StepName, err: FastifyError): Promise<void> {
    const { meta_code = null, meta_subcode = null, fbtrace_id = null } = graphErrorDetails(err) ?? {}
    const error = { code: err.code, meta_code, meta_subcode, fbtrace_id, advice: adviceFor(err) }
    const steps = withStep(execution.record.steps, name, { status: 'failed', evidence: evidenceOf(err), error })
    const { record, leaseOwner } = execution
    if (isRetried({ name, error }, record)) {
      const delayMs = (retryAfterIn(err) ?? 0) * 1000
      if (await postponeOnboarding(database, record.id, leaseOwner, steps, delayMs) === null) throw new LeaseLostError()
      return
    }
    const isEnd = isFinal({ name, error }, record)
    const end = isEnd ? { status: 'failed', access_token: null, former: null } as const : {}
    const to = isEnd ? 'failed' : 'waiting'
    const reason = isEnd ? err.code : awaited(name, err.code)
    await outcomes.report(record.tenant_id, { to, reason }, async (tx) => {
      await update(execution, { steps, holder: null, ...end }, tx)
      return true
    })
  }

  async function saveGrantedToken (execution: Execution, sealed: string, expiresAt: string | null): Promise<void> {
    const evidence = { app_id: execution.app.id, expires_at: expiresAt }
    const steps = withStep(execution.record.steps, 'exchange', { status: 'done', evidence, error: null })
    const change = { access_token: sealed, token_expires_at: expiresAt, steps }
    const end = Date.now() + TOKEN_SAVE_TIMEOUT_MS
    let record: OnboardingRow | null | undefined
    while (record === undefined) {
      try {
        record = await saveToken(database, execution.record.id, execution.leaseOwner, change)
      } catch (err) {
        if (!(err instanceof DatabaseUnavailable) || Date.now() > end) throw err
        await delay(TOKEN_RETRY_MS)
      }
    }
    if (record === null) throw new LeaseLostError()
    execution.record = record
  }

  /** Releases a record as it was before a step that did not reach Meta: an unsent code may be sent again. */
  async function release (execution: Execution, before: Step[]): Promise<void> {
    const { record: { id }, leaseOwner } = execution
    await postponeOnboarding(database, id, leaseOwner, before, 0).catch((err: unknown) => {
      log.debug({ err }, 'an onboarding was not released')
    })
  }
}

function evidenceOf (err: object): Step['evidence'] {
  return 'phone_numbers' in err ? storable({ phone_numbers: err.phone_numbers }) : null
}

/** Removes NUL and replaces lone surrogates: PostgreSQL stores neither in JSON, and Meta may send them in a name. */
function storable<T extends object> (evidence: T): T {
  return JSON.parse(JSON.stringify(evidence, (_key, value) =>
    typeof value === 'string' ? Buffer.from(value.replaceAll('\0', '')).toString() : value))
}

/** Returns an error of ours as it is, any other as `INTERNAL`. */
function toApiError (err: unknown): FastifyError {
  return err instanceof FastifyError ? err : new Internal()
}
