import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { LRUCache } from 'lru-cache'
import pLimit, { type LimitFunction } from 'p-limit'
import {
  giveUpExchange, holdOnboarding, insertOnboarding, latestOnboarding, onboardingById, onboardingOfCode, reopenOnboarding, type OnboardingChange, type OnboardingState
} from '../db/onboardings.js'
import type { OnboardingRow } from '../db/schema.js'
import { ConfigNotFound, MetaCodeUsed, MetaExchangeUnknown, OnboardingNotFound, OnboardingSuperseded } from '../errors.js'
import { errorOf, failedStep, isCodeUnderWay, isFinal, isFinished, lacks, newSteps, reopened, resumed, stepOf, withStep, type ResumeInput } from '../onboarding-record.js'
import { guarded } from './database.js'
import type { MetaApps } from './meta-apps.js'
import type { MetaGraph } from './meta-graph.js'
import type { OauthLogin } from './oauth-login.js'
import { createRunRecords, Overtaken, type Run } from './onboarding-run.js'
import { createOnboardingRunner, type Outcome } from './onboarding-runner.js'
import { createSteps, overrideOf } from './onboarding-steps.js'
import type { TenantConfigs } from './tenant-configs.js'
import type { TokenWatch } from './token-watch.js'
import type { Vault } from './vault.js'

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

const POLL_MS = 100
const LOGINS_PER_TENANT = 5

// A client that sends its request once more after one of these wants it to go on, and Meta has refused nothing.
const PASSING = new Set(['META_UNAVAILABLE', 'META_TIMEOUT', 'META_UNEXPECTED_REPLY', 'DATABASE_UNAVAILABLE', 'INTERNAL'])

interface OnboardingDependencies {
  orm: NodePgDatabase
  vault: Vault
  tenantConfigs: TenantConfigs
  metaApps: MetaApps
  metaGraph: MetaGraph
  oauthLogin: OauthLogin
  tokenWatch: TokenWatch
  log: FastifyBaseLogger
  /** Milliseconds that a call of the Graph API may take. */
  timeoutMs: number
}

/**
 * Turns a Meta login into proven, stored credentials, one step after the other. What is done is written down before the next step
 * begins, so that whatever dies on the way, the onboarding goes on from there and the code is sent to Meta once.
 */
export function createOnboarding ({ orm, vault, tenantConfigs, metaApps, metaGraph, oauthLogin, tokenWatch, log, timeoutMs }: OnboardingDependencies) {
  const records = createRunRecords({ orm })
  const steps = createSteps({ metaGraph, tenantConfigs, tokenWatch, vault, records, log, timeoutMs })
  const runner = createOnboardingRunner({ orm, records, steps, log })
  const flights = new Map<string, Promise<Outcome>>()
  // One tenant's burst of logins waits in line, and leaves the connections to the others.
  const lines = new LRUCache<string, LimitFunction>({ max: 1000, memoMethod: () => pLimit(LOGINS_PER_TENANT) })

  return {
    /** Resolves when nothing is under way any more: a token that was just granted exists nowhere else. */
    settled: runner.settled,

    /** Begins a login at Meta; see `OauthLogin`. */
    start: oauthLogin.start,

    /** Calls `listener` with each change of a tenant's token status that is reported. Returns how to stop that. */
    onTransition: tokenWatch.onTransition,

    /**
     * Takes the code of a login and goes through all steps; a code that was sent before is answered from its record. Returns the row,
     * and whether this call made it.
     * Throws `DATABASE_UNAVAILABLE` before the code is spent, `OAUTH_STATE_INVALID`, `REDIRECT_URI_NOT_ALLOWED`, `META_APP_NOT_CONFIGURED`,
     * `SECRET_UNREADABLE`, `PHONE_NUMBER_TAKEN`, `CALLBACK_URL_TOO_LONG`, `ONBOARDING_SUPERSEDED`, `CONFIG_NOT_FOUND` for a code whose
     * configuration is deleted, and what the calls to Meta throw.
     */
    async complete (input: OnboardingInput): Promise<Outcome> {
      const codeHash = createHash('sha256').update(input.code).digest('base64url')
      const key = `${codeHash} ${input.tenantId}`
      const flight = flights.get(key)
      if (flight !== undefined) return { ...await flight, created: false }
      const flying = lines.memo(input.tenantId)(() => begin(input, codeHash)).finally(() => { flights.delete(key) })
      flights.set(key, flying)
      return await flying
    },

    /**
     * Goes on with the tenant's latest onboarding from its first unfinished step. A completed one is opened again for a number or a
     * registration that it lacks. Returns as `complete` does.
     * Throws `ONBOARDING_NOT_FOUND`, and what `complete` throws.
     */
    async resume (tenantId: string, input: ResumeInput): Promise<Outcome> {
      const isOver = (record: OnboardingState) => record.status === 'completed' && lacks(record, input)
      const last = await latest(tenantId)
      // Of many at once, one opens it, and the others find it open, or completed anew.
      const record = isOver(last) ? await guarded(reopenOnboarding(orm, last.id, reopened(last.steps, 'register'))) ?? await latest(tenantId) : last
      if (isOver(record)) throw new OnboardingSuperseded()
      return await answer(record, async (record) => {
        const exchange = stepOf(record, 'exchange')
        if (!isFinished(exchange)) throw errorOf(exchange)
        const failed = failedStep(record)
        // A refusal stands until there is another PIN or number; after anything else the step itself says that the PIN is needed.
        const isRefused = failed?.name === 'register' && failed.error?.code === 'META_REGISTER_REFUSED'
        if (isRefused && input.pin === undefined && input.phone_number_id === undefined) throw errorOf(failed)
        const run = await taken(record)
        return run && await carryOn({ ...run, pin: input.pin }, resumed(run.record, input))
      })
    },

    latest
  }

  /** The tenant's onboarding that waits to go on, else the one that changed last. Throws `ONBOARDING_NOT_FOUND`. */
  async function latest (tenantId: string): Promise<OnboardingState> {
    const record = await guarded(latestOnboarding(orm, tenantId))
    if (record === null) throw new OnboardingNotFound()
    return record
  }

  /** Makes the record of a code and carries it out, or answers from the one there is. */
  async function begin (input: OnboardingInput, codeHash: string): Promise<Outcome> {
    const known = await guarded(onboardingOfCode(orm, codeHash))
    if (known !== null) return await replay(known, input)

    const row = await tenantConfigs.find(input.tenantId)
    const app = metaApps.of(row)
    overrideOf(row)
    oauthLogin.assertRedirectUri(input.redirect_uri)
    oauthLogin.assertStateGiven(input.state)
    const holder = randomUUID()
    const record = await guarded(orm.transaction(async (tx) => {
      const inserted = await insertOnboarding(tx, {
        tenant_id: input.tenantId,
        user_id: input.userId,
        code_hash: codeHash,
        steps: newSteps(),
        waba_id: input.waba_id ?? null,
        phone_number_id: input.phone_number_id ?? null,
        pin_given: input.pin !== undefined,
        holder
      })
      // Only behind the record: of posts of one code at once, one uses the state up, and the others find its record.
      if (inserted !== null && input.state !== undefined) await oauthLogin.consume(tx, input.state, input)
      return inserted
    }))
    if (record === null) return await begin(input, codeHash)
    return await carryOn({ record, holder, app, code: input.code, redirect_uri: input.redirect_uri, pin: input.pin })
  }

  /** Answers a code that has a record. It goes on where nothing was refused, and is never sent again when it may have arrived. */
  async function replay (record: OnboardingState, input: OnboardingInput): Promise<Outcome> {
    if (record.tenant_id !== input.tenantId) throw new MetaCodeUsed()
    return await answer(record, async (record) => {
      const failed = failedStep(record)
      // Meta counts registrations, so only who asks for one again gets one.
      if (failed?.error && (failed.name === 'register' || !PASSING.has(failed.error.code))) throw errorOf(failed)
      if (!isFinished(stepOf(record, 'exchange'))) oauthLogin.assertRedirectUri(input.redirect_uri)
      const run = await taken(record)
      return run && await carryOn({ ...run, code: input.code, redirect_uri: input.redirect_uri, pin: input.pin }, input.pin === undefined ? {} : { pin_given: true })
    })
  }

  /**
   * Waits until nobody carries the record on, and answers from it. Where it has not ended `goOn` may; it returns null when
   * somebody was faster. Who has waited takes what the other one met, so that many at once do not ask Meta one after the other.
   */
  async function answer (record: OnboardingState, goOn: (record: OnboardingRow) => Promise<Outcome | null>, hasWaited = false): Promise<Outcome> {
    if (record.status === 'completed') {
      const config = await tenantConfigs.find(record.tenant_id)
      if (config === null) throw new ConfigNotFound()
      return { created: false, config }
    }
    const failed = failedStep(record)
    if (record.status === 'failed') throw errorOf(failed !== undefined && isFinal(failed) ? failed : undefined)
    // Whoever holds it may be about to try the failed step again.
    if (hasWaited && !record.held && failed !== undefined) throw errorOf(failed)
    if (record.held) {
      await delay(POLL_MS)
    } else if (isCodeUnderWay(record)) {
      const unknown = new MetaExchangeUnknown()
      const error = { code: unknown.code, meta_code: null, meta_subcode: null, fbtrace_id: null, advice: unknown.message }
      await guarded(giveUpExchange(orm, record.id, withStep(record.steps, 'exchange', { status: 'failed', error })))
    } else {
      const outcome = await goOn(record)
      if (outcome !== null) return outcome
    }
    const now = await guarded(onboardingById(orm, record.id))
    if (now === null) throw new OnboardingNotFound()
    return await answer(now, goOn, hasWaited || record.held)
  }

  /** A run of a record that nobody carries on; null when somebody else has taken it. */
  async function taken (record: OnboardingRow): Promise<Run | null> {
    const app = metaApps.of(await tenantConfigs.find(record.tenant_id))
    const grantedTo = stepOf(record, 'exchange').evidence?.['app_id'] ?? app.id
    // The token is good for nothing with this one; with the former one again, it is.
    if (grantedTo !== app.id) throw new OnboardingSuperseded()
    const holder = randomUUID()
    const held = await guarded(holdOnboarding(orm, record.id, holder))
    return held === null ? null : { record: held, holder, app }
  }

  /** Carries a run on; where somebody else has taken it over, answers from what became of it. */
  async function carryOn (run: Run, change?: OnboardingChange): Promise<Outcome> {
    try {
      return await runner.carryOn(run, change)
    } catch (err) {
      if (!(err instanceof Overtaken)) throw err
      const record = await guarded(onboardingById(orm, run.record.id))
      if (record === null) throw new OnboardingSuperseded()
      return await answer(record, async () => { throw new OnboardingSuperseded() })
    }
  }
}

/** Decorates `fastify.onboarding`. */
async function onboarding (fastify: FastifyInstance): Promise<void> {
  const { database: { orm }, env: { GRAPH_TIMEOUT_MS: timeoutMs }, vault, tenantConfigs, metaApps, metaGraph, oauthLogin, tokenWatch, log } = fastify
  fastify.decorate('onboarding', createOnboarding({ orm, vault, tenantConfigs, metaApps, metaGraph, oauthLogin, tokenWatch, log, timeoutMs }))
  // Before the hook of the database, which was registered earlier.
  fastify.addHook('onClose', async () => { await fastify.onboarding.settled() })
}

export default fp(onboarding, { name: 'onboarding', dependencies: ['env', 'database', 'vault', 'tenant-configs', 'meta-apps', 'meta-graph', 'oauth-login', 'token-watch'] })
