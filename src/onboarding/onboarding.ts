import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Audit } from '../audit/audit.js'
import type { Database } from '../database/database.js'
import type { OnboardingRow } from '../database/schema/onboardings.js'
import type { Events } from '../events/events.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { Env } from '../settings/env.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { TenantQueues } from '../tenant-queues/tenant-queues.js'
import type { TokenWatch } from '../token-watch/token-watch.js'
import type { Vault } from '../vault/vault.js'
import { createExecutor, TOKEN_SAVE_TIMEOUT_MS } from './executor.js'
import { createGrantedApp } from './granted-app.js'
import { createAwaitOutcome } from './lease.js'
import { createOauthLogin, type LoginInput } from './oauth-login.js'
import type { StateOwner } from './oauth-states.sql.js'
import { createOutcomes } from './outcomes.js'
import { shownSteps } from './record.js'
import { createRetries } from './retries.js'
import { createOnboardingService } from './service.js'
import { createSteps } from './steps/steps.js'

declare module 'fastify' {
  interface FastifyInstance { onboarding: Onboarding }
}

export type Onboarding = ReturnType<typeof createOnboarding>['onboarding']

interface OnboardingDependencies {
  database: Pick<Database, 'run' | 'count' | 'ofTenant' | 'transaction'>
  env: Env
  vault: Vault
  tenantConfigs: TenantConfigs
  metaGraph: MetaGraph
  tokenWatch: TokenWatch
  events: Events
  audit: Pick<Audit, 'record'>
  tenantQueues: Pick<TenantQueues, 'run'>
  closing: AbortSignal
  log: FastifyBaseLogger
}

/**
 * Turns a Meta login into verified, stored credentials, step by step. Each step is recorded before the next one begins:
 * after a crash the onboarding continues from there, and the code is sent to Meta once.
 */
export function createOnboarding (dependencies: OnboardingDependencies) {
  const { env: { GRAPH_TIMEOUT_MS: timeoutMs }, tenantQueues } = dependencies
  const oauthLogin = createOauthLogin(dependencies)
  const outcomes = createOutcomes(dependencies)
  const grantedApp = createGrantedApp(dependencies)
  const execute = createExecutor({ ...dependencies, outcomes, steps: createSteps({ ...dependencies, timeoutMs }) })
  const awaitOutcome = createAwaitOutcome({ ...dependencies, outcomes, timeoutMs })
  const services = { oauthLogin, grantedApp, execute, awaitOutcome }
  const { complete, resume, latest } = createOnboardingService({ ...dependencies, ...services })

  const onboarding = {
    complete,
    resume,

    /** Begins a login at Meta, in the tenant's queue; see `OauthLogin`. */
    start: async (owner: StateOwner, input: LoginInput, client: AbortSignal) =>
      await tenantQueues.run(owner.tenantId, client, async () => await oauthLogin.start(owner, input)),

    /**
     * Returns the tenant's onboarding that can be resumed, else the one that changed last, with its steps as clients
     * read them. Throws `ONBOARDING_NOT_FOUND`.
     */
    async latest (tenantId: string): Promise<OnboardingRow> {
      const record = await latest(tenantId)
      return { ...record, steps: shownSteps(record.steps) }
    },

    /** Calls `listener` with each event. Returns a function that ends that. */
    onTransition: dependencies.events.onEvent,

    /** Milliseconds that a close may wait: for one call to Meta, and for the write of the granted token. */
    closeTimeoutMs: timeoutMs + TOKEN_SAVE_TIMEOUT_MS
  }
  return { onboarding, retries: createRetries({ ...dependencies, grantedApp, execute, outcomes }) }
}

/** Decorates `fastify.onboarding`, and continues onboardings by themselves from `onReady` to the close. */
async function onboarding (fastify: FastifyInstance): Promise<void> {
  const {
    database, env, vault, tenantConfigs, metaGraph, tokenWatch, events, audit, tenantQueues, closing, log
  } = fastify
  const { onboarding, retries } = createOnboarding({
    database, env, vault, tenantConfigs, metaGraph, tokenWatch, events, audit, tenantQueues, closing, log
  })
  fastify.decorate('onboarding', onboarding)
  fastify.addHook('onReady', async () => { retries.start() })
  // Before the hook of the database, which was registered earlier.
  fastify.addHook('onClose', async () => { await retries.stop() })
}

export default fp(onboarding, {
  name: 'onboarding',
  dependencies: [
    'env', 'database', 'vault', 'tenant-configs', 'meta-graph', 'token-watch', 'events', 'audit', 'tenant-queues',
    'closing'
  ]
})
