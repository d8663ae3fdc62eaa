import { createHash, randomUUID } from 'node:crypto'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { StateOwner } from './oauth-states.sql.js'
import {
  acquireLease, insertOnboarding, latestOnboarding, onboardingById, onboardingOfCode, reopenOnboarding, type OnboardingChange, type OnboardingState
} from './onboardings.sql.js'
import { deleteSurplusOnboardings } from '../retention/retention.sql.js'
import type { OnboardingRow } from '../database/schema.js'
import { MetaCodeUsed, OnboardingNotFound, OnboardingSuperseded } from '../errors.js'
import {
  stepFailure, failedStep, isFinished, isTransient, lacksRequested, newSteps, withStepsReopened, resumeChange, stepOf, type ResumeInput
} from './record.js'
import { createSharedWork } from '../waiting/shared-work.js'
import { mapDatabaseErrors } from '../database/database.js'
import type { MetaApps } from '../meta/apps.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { LoginInput, OauthLogin } from './oauth-login.js'
import { createAwaitOutcome, type OnboardingResult, type Waiter } from './lease.js'
import { createExecutionRecords, LeaseLostError, type Execution } from './execution.js'
import { createExecutor } from './executor.js'
import { createSteps, callbackOf } from './steps.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { TenantQueues } from '../tenant-queues/tenant-queues.js'
import type { TokenWatch } from '../token-watch/store.js'
import type { Vault } from '../vault/vault.js'

declare module 'fastify' {
  interface FastifyInstance { onboarding: Onboarding }
}

/** What turns a Meta login into stored credentials. */
export type Onboarding = ReturnType<typeof createOnboarding>

/** Who onboards, and what the Meta login left behind: its code, and the account it says was granted. */
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

interface OnboardingDependencies {
  orm: NodePgDatabase
  vault: Vault
  tenantConfigs: TenantConfigs
  metaApps: MetaApps
  metaGraph: MetaGraph
  oauthLogin: OauthLogin
  tokenWatch: TokenWatch
  tenantQueues: Pick<TenantQueues, 'run'>
  closing: AbortSignal
  log: FastifyBaseLogger
  /** Milliseconds that a call of the Graph API may take. */
  timeoutMs: number
}

/**
 * Turns a Meta login into proven, stored credentials, one step after the other. What is done is written down before the next step
 * begins, so that whatever dies on the way, the onboarding goes on from there and the code is sent to Meta once.
 */
export function createOnboarding (dependencies: OnboardingDependencies) {
  const { orm, tenantConfigs, metaApps, metaGraph, oauthLogin, tokenWatch, tenantQueues, closing, log } = dependencies
  const records = createExecutionRecords({ orm })
  const steps = createSteps({ ...dependencies, records })
  const executor = createExecutor({ orm, records, steps, closing, log })
  const awaitOutcome = createAwaitOutcome(dependencies)
  const shareByCode = createSharedWork<OnboardingResult>()

  return {
    /** Begins a login at Meta, in the tenant's turn; see `OauthLogin`. */
    start: async (owner: StateOwner, input: LoginInput, client: AbortSignal) =>
      await tenantQueues.run(owner.tenantId, client, async () => await oauthLogin.start(owner, input)),

    /** Calls `listener` with each change of a tenant's token status that is reported. Returns how to stop that. */
    onTransition: tokenWatch.onTransition,

    /**
     * Takes the code of a login and goes through all steps, in the tenant's turn; a code that was sent before is answered from its record.
     * Posts of one code at once are one. A client that leaves ends its wait, not the onboarding. Returns the row, and whether this call
     * made it.
     * Throws `DATABASE_UNAVAILABLE` before the code is spent, `OAUTH_STATE_INVALID`, `REDIRECT_URI_NOT_ALLOWED`, `META_APP_NOT_CONFIGURED`,
     * `SECRET_UNREADABLE`, `PHONE_NUMBER_TAKEN`, `CALLBACK_URL_TOO_LONG`, `ONBOARDING_SUPERSEDED`, `CONFIG_NOT_FOUND` for a code whose
     * configuration is deleted, `ONBOARDING_UNDER_WAY`, what `TenantQueues.run` throws, and what the calls to Meta throw.
     */
    async complete (input: OnboardingInput, client: AbortSignal): Promise<OnboardingResult> {
      const { tenantId } = input
      const codeHash = createHash('sha256').update(input.code).digest('base64url')
      const { result, isFirst } = await shareByCode(`${codeHash} ${tenantId}`, async (clients) =>
        await tenantQueues.run(tenantId, clients, async () => await begin(input, codeHash, clients)), [client])
      return isFirst ? result : { ...result, created: false }
    },

    /**
     * Goes on with the tenant's latest onboarding from its first unfinished step, in the tenant's turn. A completed one is opened again for
     * a number or a registration that it lacks. Returns as `complete` does.
     * Throws `ONBOARDING_NOT_FOUND`, and what `complete` throws.
     */
    async resume (tenantId: string, input: ResumeInput, client: AbortSignal): Promise<OnboardingResult> {
      const cameAt = new Date().toISOString()
      return await tenantQueues.run(tenantId, client, async (hasWaited) => await resume(tenantId, input, { client, queuedAt: hasWaited ? cameAt : undefined }))
    },

    latest
  }

  /** The tenant's onboarding that waits to go on, else the one that changed last. Throws `ONBOARDING_NOT_FOUND`. */
  async function latest (tenantId: string): Promise<OnboardingState> {
    const record = await mapDatabaseErrors(latestOnboarding(orm, tenantId))
    if (record === null) throw new OnboardingNotFound()
    return record
  }

  async function resume (tenantId: string, input: ResumeInput, waiter: Waiter): Promise<OnboardingResult> {
    const isOver = (record: OnboardingState) => record.status === 'completed' && lacksRequested(record, input)
    const last = await latest(tenantId)
    // Of many at once, one opens it, and the others find it open, or completed anew.
    const record = isOver(last) ? await mapDatabaseErrors(reopenOnboarding(orm, last.id, withStepsReopened(last.steps, 'register'))) ?? await latest(tenantId) : last
    if (isOver(record)) throw new OnboardingSuperseded()
    return await awaitOutcome(record, waiter, async (record) => {
      const exchange = stepOf(record, 'exchange')
      if (!isFinished(exchange)) throw stepFailure(exchange)
      const failed = failedStep(record)
      // A refusal stands until there is another PIN or number; after anything else the step itself says that the PIN is needed.
      const isRefused = failed?.name === 'register' && failed.error?.code === 'META_REGISTER_REFUSED'
      if (isRefused && input.pin === undefined && input.phone_number_id === undefined) throw stepFailure(failed)
      const run = await acquire(record)
      return run && await execute({ ...run, pin: input.pin }, waiter, resumeChange(run.record, input))
    })
  }

  /** Makes the record of a code and carries it out, or answers from the one there is. */
  async function begin (input: OnboardingInput, codeHash: string, client: AbortSignal): Promise<OnboardingResult> {
    let known = await mapDatabaseErrors(onboardingOfCode(orm, codeHash))
    while (known === null) {
      const run = await newExecution(input, codeHash)
      if (run !== null) return await execute(run, { client })
      known = await mapDatabaseErrors(onboardingOfCode(orm, codeHash))
    }
    return await replay(known, input, { client })
  }

  /** Makes the record of a code; null when the code has one by now. */
  async function newExecution (input: OnboardingInput, codeHash: string): Promise<Execution | null> {
    const row = await tenantConfigs.find(input.tenantId)
    const app = metaApps.of(row)
    callbackOf(row)
    oauthLogin.assertRedirectUri(input.redirect_uri)
    oauthLogin.assertStateGiven(input.state)
    // Before there is a record: the state stays unused, and the same code may be sent again.
    metaGraph.assertExchangeUnblocked(app)
    const leaseOwner = randomUUID()
    const record = await mapDatabaseErrors(orm.transaction(async (tx) => {
      const inserted = await insertOnboarding(tx, {
        tenant_id: input.tenantId,
        user_id: input.userId,
        code_hash: codeHash,
        steps: newSteps(),
        waba_id: input.waba_id ?? null,
        phone_number_id: input.phone_number_id ?? null,
        pin_given: input.pin !== undefined,
        holder: leaseOwner
      })
      // Only behind the record: of posts of one code at once, one uses the state up, and the others find its record.
      if (inserted !== null && input.state !== undefined) await oauthLogin.consume(tx, input.state, input)
      return inserted
    }))
    if (record === null) return null
    await mapDatabaseErrors(deleteSurplusOnboardings(orm, input.tenantId)).catch((err: unknown) => {
      log.warn({ err, tenant_id: input.tenantId }, 'surplus onboardings could not be deleted; the next login of the tenant tries again')
    })
    return { record, leaseOwner, app, code: input.code, redirect_uri: input.redirect_uri, pin: input.pin }
  }

  /** Answers a code that has a record. It goes on where nothing was refused, and is never sent again when it may have arrived. */
  async function replay (record: OnboardingState, input: OnboardingInput, waiter: Waiter): Promise<OnboardingResult> {
    if (record.tenant_id !== input.tenantId) throw new MetaCodeUsed()
    return await awaitOutcome(record, waiter, async (record) => {
      const failed = failedStep(record)
      // Meta counts registrations, so only who asks for one again gets one.
      if (failed?.error && (failed.name === 'register' || !isTransient(failed.error))) throw stepFailure(failed)
      if (!isFinished(stepOf(record, 'exchange'))) oauthLogin.assertRedirectUri(input.redirect_uri)
      const run = await acquire(record)
      const change = input.pin === undefined ? {} : { pin_given: true }
      return run && await execute({ ...run, code: input.code, redirect_uri: input.redirect_uri, pin: input.pin }, waiter, change)
    })
  }

  /** A run of a record that nobody carries on; null when somebody else has taken it. */
  async function acquire (record: OnboardingRow): Promise<Execution | null> {
    const app = metaApps.of(await tenantConfigs.find(record.tenant_id))
    const grantedTo = stepOf(record, 'exchange').evidence?.['app_id'] ?? app.id
    // The token is good for nothing with this one; with the former one again, it is.
    if (grantedTo !== app.id) throw new OnboardingSuperseded()
    const leaseOwner = randomUUID()
    const held = await mapDatabaseErrors(acquireLease(orm, record.id, leaseOwner))
    return held === null ? null : { record: held, leaseOwner, app }
  }

  /** Carries a run on; where somebody else has taken it over, answers from what became of it. */
  async function execute (run: Execution, waiter: Waiter, change?: OnboardingChange): Promise<OnboardingResult> {
    try {
      return await executor.execute(run, change)
    } catch (err) {
      if (!(err instanceof LeaseLostError)) throw err
      const record = await mapDatabaseErrors(onboardingById(orm, run.record.id))
      if (record === null) throw new OnboardingSuperseded()
      return await awaitOutcome(record, waiter, async () => { throw new OnboardingSuperseded() })
    }
  }
}

/** Decorates `fastify.onboarding`. */
async function onboarding (fastify: FastifyInstance): Promise<void> {
  const { database: { orm }, env: { GRAPH_TIMEOUT_MS: timeoutMs }, vault, tenantConfigs, metaApps, metaGraph, oauthLogin, tokenWatch, tenantQueues, closing, log } = fastify
  fastify.decorate('onboarding', createOnboarding({ orm, vault, tenantConfigs, metaApps, metaGraph, oauthLogin, tokenWatch, tenantQueues, closing, log, timeoutMs }))
}

export default fp(onboarding, {
  name: 'onboarding',
  dependencies: ['env', 'database', 'vault', 'tenant-configs', 'meta-apps', 'meta-graph', 'oauth-login', 'token-watch', 'tenant-queues', 'closing']
})
