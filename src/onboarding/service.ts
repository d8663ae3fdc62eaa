import { createHash } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import type { Database } from '../database/database.js'
import type { OnboardingRow } from '../database/schema/onboardings.js'
import { MetaCodeUsed, OnboardingNotFound, OnboardingSuperseded } from '../errors.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { TenantQueues } from '../tenant-queues/tenant-queues.js'
import { createSharedWork } from '../waiting/shared-work.js'
import type { createExecutor, Execution } from './executor.js'
import { formerIdentity } from './former-identity.js'
import type { createGrantedApp } from './granted-app.js'
import {
  lease, LeaseLostError, newLeaseOwner, type createAwaitOutcome, type OnboardingResult, type Waiter
} from './lease.js'
import type { OauthLogin } from './oauth-login.js'
import {
  deleteSurplusOnboardings, insertOnboarding, latestOnboarding, onboardingById, onboardingOfCode, reopenOnboarding,
  type OnboardingChange, type OnboardingState
} from './onboardings.sql.js'
import {
  failedStep, isFinished, isTransient, lacksRequested, newSteps, resumeChange, stepFailure, stepOf, withStepsReopened,
  type ResumeInput
} from './record.js'
import { callbackOf } from './steps/callback.js'

/** The tenant and user that onboard, and the result of the Meta login: its code and the granted account. */
export interface OnboardingInput {
  tenantId: string
  userId: string | null
  code: string
  waba_id?: string | undefined
  phone_number_id?: string | undefined
  redirect_uri?: string | undefined
  state?: string | undefined
  pin?: string | undefined
}

interface ServiceDependencies {
  database: Pick<Database, 'run' | 'count' | 'ofTenant' | 'transaction'>
  tenantConfigs: Pick<TenantConfigs, 'find' | 'lockIdentity'>
  metaGraph: Pick<MetaGraph, 'appOf' | 'assertExchangeUnblocked'>
  oauthLogin: OauthLogin
  grantedApp: ReturnType<typeof createGrantedApp>
  tenantQueues: Pick<TenantQueues, 'run'>
  execute: ReturnType<typeof createExecutor>
  awaitOutcome: ReturnType<typeof createAwaitOutcome>
  log: Pick<FastifyBaseLogger, 'warn'>
}

/** Executes the onboarding of a request, answers from its record, or refuses. */
export function createOnboardingService (dependencies: ServiceDependencies) {
  const { database, tenantConfigs, metaGraph, oauthLogin, grantedApp } = dependencies
  const { tenantQueues, execute, awaitOutcome, log } = dependencies
  const shareByCode = createSharedWork<OnboardingResult>()

  return {
    /**
     * Onboards with the code of a login, in the tenant's queue. A code that was sent before is answered from its
     * record; posts of one code at once share one execution. A client that leaves ends its wait, not the onboarding.
     *
     * @returns the row, and whether this onboarding created it
     * @throws `DATABASE_UNAVAILABLE` before the code is spent, `OAUTH_STATE_INVALID`, `REDIRECT_URI_NOT_ALLOWED`,
     * `META_APP_NOT_CONFIGURED`, `SECRET_UNREADABLE`, `PHONE_NUMBER_TAKEN`, `CALLBACK_URL_TOO_LONG`,
     * `ONBOARDING_SUPERSEDED`, `CONFIG_NOT_FOUND` for a code whose configuration is deleted, `ONBOARDING_UNDER_WAY`,
     * and the errors of `TenantQueues.run` and of the calls to Meta
     */
    async complete (input: OnboardingInput, client: AbortSignal): Promise<OnboardingResult> {
      const { tenantId } = input
      const codeHash = createHash('sha256').update(input.code).digest('base64url')
      const { result, isFirst } = await shareByCode(`${codeHash} ${tenantId}`, async (clients) =>
        await tenantQueues.run(tenantId, clients, async () => await begin(input, codeHash, clients)), [client])
      return isFirst ? result : { ...result, created: false }
    },

    /**
     * Resumes the tenant's latest onboarding at its first unfinished step, in the tenant's queue. A completed one is
     * reopened for a number or a registration that it lacks.
     *
     * @returns as `complete`
     * @throws `ONBOARDING_NOT_FOUND`, and what `complete` throws
     */
    async resume (tenantId: string, input: ResumeInput, client: AbortSignal): Promise<OnboardingResult> {
      const requestedAt = new Date().toISOString()
      return await tenantQueues.run(tenantId, client, async (hasWaited) =>
        await resume(tenantId, input, { client, queuedAt: hasWaited ? requestedAt : undefined }))
    },

    latest
  }

  /**
   * Returns the tenant's onboarding that can be resumed, else the one that changed last. Throws `ONBOARDING_NOT_FOUND`.
   */
  async function latest (tenantId: string): Promise<OnboardingState> {
    const record = await latestOnboarding(database.ofTenant(tenantId), tenantId)
    if (record === null) throw new OnboardingNotFound()
    return record
  }

  async function resume (tenantId: string, input: ResumeInput, waiter: Waiter): Promise<OnboardingResult> {
    const record = await openRecord(await latest(tenantId), input)
    return await awaitOutcome(record, waiter, async (record) => {
      const exchange = stepOf(record, 'exchange')
      if (!isFinished(exchange)) throw stepFailure(exchange)
      const failed = failedStep(record)
      // A refusal needs another PIN or number. After other errors the step itself asks for the PIN.
      const isRefused = failed?.name === 'register' && failed.error?.code === 'META_REGISTER_REFUSED'
      const isEmpty = Object.values(input).every((value) => value === undefined)
      if (isRefused && isEmpty) throw stepFailure(failed)
      const pin = input.pin ?? undefined
      return await executeLeased(record, { pin }, waiter, (leased) => resumeChange(leased, input))
    })
  }

  /** Reopens a completed record that lacks what the input asks for. Throws `ONBOARDING_SUPERSEDED`. */
  async function openRecord (record: OnboardingState, input: ResumeInput): Promise<OnboardingState> {
    const isClosed = (state: OnboardingState) => state.status === 'completed' && lacksRequested(state, input)
    if (!isClosed(record)) return record
    const steps = withStepsReopened(record.steps, 'register')
    // One of many concurrent requests reopens it; the others find it open, or completed again.
    const opened = await database.transaction(async (tx) => {
      // Under the lock, as in `createExecution`.
      await tenantConfigs.lockIdentity(tx, record.tenant_id)
      return await reopenOnboarding(tx, record.id, steps)
    }) ?? await latest(record.tenant_id)
    if (isClosed(opened)) throw new OnboardingSuperseded()
    return opened
  }

  /** Creates the record of a code and executes it, or answers from the existing record. */
  async function begin (input: OnboardingInput, codeHash: string, client: AbortSignal): Promise<OnboardingResult> {
    let known = await onboardingOfCode(database, codeHash)
    while (known === null) {
      const execution = await createExecution(input, codeHash)
      if (execution !== null) return await executeOrAwait(execution, { client })
      known = await onboardingOfCode(database, codeHash)
    }
    return await replay(known, input, { client })
  }

  /** Creates the record of a code, leased to this process; null when the code has one. */
  async function createExecution (input: OnboardingInput, codeHash: string): Promise<Execution | null> {
    const row = await tenantConfigs.find(input.tenantId)
    const app = metaGraph.appOf(row)
    callbackOf(row)
    oauthLogin.assertRedirectUri(input.redirect_uri)
    oauthLogin.assertStateGiven(input.state)
    // Before the record exists: on a refusal the state stays unused, and the code may be sent again.
    metaGraph.assertExchangeUnblocked(app)
    const leaseOwner = newLeaseOwner()
    const record = await database.transaction(async (tx) => {
      // Under the lock: a rotation must not seal the token anew before it sees that this record has it.
      const identity = await tenantConfigs.lockIdentity(tx, input.tenantId)
      const inserted = await insertOnboarding(tx, {
        tenant_id: input.tenantId,
        user_id: input.userId,
        code_hash: codeHash,
        steps: newSteps(),
        waba_id: input.waba_id ?? null,
        phone_number_id: input.phone_number_id ?? null,
        pin_given: input.pin !== undefined,
        holder: leaseOwner,
        former: formerIdentity(identity)
      })
      // After the insert: of posts of one code at once, one consumes the state; the others find the record.
      if (inserted !== null && input.state !== undefined) await oauthLogin.consume(tx, input.state, input)
      return inserted
    })
    if (record === null) return null
    await deleteSurplusOnboardings(database, input.tenantId).catch((err: unknown) => {
      log.warn({ err, tenant_id: input.tenantId },
        'surplus onboardings could not be deleted; the next login of the tenant tries again')
    })
    return { record, leaseOwner, app, code: input.code, redirect_uri: input.redirect_uri, pin: input.pin }
  }

  /** Answers a code that has a record, and continues it. A code that may have arrived at Meta is never sent again. */
  async function replay (record: OnboardingState, input: OnboardingInput, waiter: Waiter): Promise<OnboardingResult> {
    if (record.tenant_id !== input.tenantId) throw new MetaCodeUsed()
    return await awaitOutcome(record, waiter, async (record) => {
      const failed = failedStep(record)
      // Meta limits registrations, so only `resume` repeats one.
      if (failed?.error && (failed.name === 'register' || !isTransient(failed.error))) throw stepFailure(failed)
      if (!isFinished(stepOf(record, 'exchange'))) oauthLogin.assertRedirectUri(input.redirect_uri)
      const { code, redirect_uri, pin } = input
      const change = pin === undefined ? {} : { pin_given: true }
      return await executeLeased(record, { code, redirect_uri, pin }, waiter, () => change)
    })
  }

  /**
   * Leases a record and executes it with the values of the request; null when another process has leased it. Throws
   * `ONBOARDING_SUPERSEDED`.
   */
  async function executeLeased (
    record: OnboardingRow,
    given: Pick<Execution, 'code' | 'redirect_uri' | 'pin'>,
    waiter: Waiter,
    changeOf: (leased: OnboardingRow) => OnboardingChange
  ): Promise<OnboardingResult | null> {
    const app = await grantedApp(record)
    const leased = await lease(database, record.id)
    return leased && await executeOrAwait({ ...leased, app, ...given }, waiter, changeOf(leased.record))
  }

  /** Executes an onboarding; when its lease is lost, answers from the record. */
  async function executeOrAwait (
    execution: Execution, waiter: Waiter, change?: OnboardingChange
  ): Promise<OnboardingResult> {
    try {
      return await execute(execution, change)
    } catch (err) {
      if (!(err instanceof LeaseLostError)) throw err
      const record = await onboardingById(database, execution.record.id)
      if (record === null) throw new OnboardingSuperseded()
      return await awaitOutcome(record, waiter, async () => { throw new OnboardingSuperseded() })
    }
  }
}
