import { Value } from '@sinclair/typebox/value'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { LRUCache } from 'lru-cache'
import { type Answers, type Check, checksOf, type Expected, isListed, type AnswerOrRefusal, unusable } from './checks.js'
import type { WritableColumn } from '../tenant-configs/tenant-configs.sql.js'
import { lockWatch } from '../token-watch/token-watch.sql.js'
import { saveVerifiedIdentity, type VerifiedOutcome } from '../tenant-configs/verified-identities.sql.js'
import { ConfigNotFound, MetaAppRejected, MetaTokenInvalid, PhoneNumberTaken } from '../errors.js'
import { adviceFor } from '../meta/advice.js'
import type { MetaApps } from '../meta/apps.js'
import type { MetaApp, MetaGraph } from '../meta/meta-graph.js'
import { isRefusal } from '../meta/refusals.js'
import { Token } from '../meta/http-client.js'
import { createRowSecrets, type ConfigInput } from '../tenant-configs/row-secrets.js'
import type { TenantConfigRow, TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { TenantQueues } from '../tenant-queues/tenant-queues.js'
import { reasonOf } from '../token-watch/check.js'
import type { TokenHealth, TokenWatch } from '../token-watch/store.js'
import type { Vault } from '../vault/vault.js'

declare module 'fastify' {
  interface FastifyInstance { verification: Verification }
}

export type Verification = ReturnType<typeof createVerification>

interface VerificationDependencies {
  tenantConfigs: Pick<TenantConfigs, 'find' | 'inTransaction'>
  tenantQueues: Pick<TenantQueues, 'run'>
  metaApps: MetaApps
  metaGraph: Pick<MetaGraph, 'inspectToken' | 'listPhoneNumbers' | 'subscriptionOf' | 'effectiveCallback'>
  tokenWatch: Pick<TokenWatch, 'healthOf' | 'recordIn' | 'emit'>
  vault: Pick<Vault, 'seal' | 'open'>
  /** Where webhooks are to go when the tenant does not say. */
  callbackUrl: string | null
}

/** The columns that are checked. */
const CREDENTIALS = [
  'tenant_id', 'access_token', 'waba_id', 'phone_number_id', 'fb_app_id', 'fb_app_secret', 'callback_url', 'verify_token'
] as const

/** Credentials to be checked, sealed as in a row. */
type Credentials = Pick<TenantConfigRow, typeof CREDENTIALS[number]>

/** What was found; of the token when it expires (undefined: Meta did not say), or why it is of no use, or nothing. */
interface Findings { checks: Check[], token: { expires_at: string | null | undefined } | { reason: string } | null }

/** A check of what is stored, and when it ended (ms of `performance.now()`; Infinity while it runs). */
interface VerificationRun { credentials: string, checks: Promise<Check[]>, endedAt: number }

/** How many tenants' latest runs are kept. One that is dropped costs calls to Meta, no more. */
const MAX_RUNS = 1000

/**
 * Proves credentials against Meta, in the tenant's turn: `client` is aborted when nobody waits any more. Besides what each method says, both
 * throw what `TenantQueues.run` throws, `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE` and, having
 * stored nothing, what keeps Meta from being asked or from answering: `META_APP_NOT_CONFIGURED`, `META_APP_REJECTED` of the platform's app,
 * `META_RATE_LIMITED`, `META_UNAVAILABLE`, `META_TIMEOUT`, `META_UNEXPECTED_REPLY`.
 */
export function createVerification ({ tenantConfigs, tenantQueues, metaApps, metaGraph, tokenWatch, vault, callbackUrl }: VerificationDependencies) {
  const secrets = createRowSecrets({ vault })
  const runs = new LRUCache<string, VerificationRun>({ max: MAX_RUNS })

  return {
    /**
     * Checks what is stored, and notes what was found unless something else is stored or noted by then. Returns the row as it is then.
     * Where token and assets hold, the identity is verified. A request that comes while the same is being checked gets that answer, also
     * when it has waited for its turn until after that.
     * Throws `CONFIG_NOT_FOUND` and, what was found of the token being noted, `PHONE_NUMBER_TAKEN`.
     */
    async verify (tenantId: string, client: AbortSignal): Promise<{ checks: Check[], row: TenantConfigRow }> {
      const cameAt = performance.now()
      return await tenantQueues.run(tenantId, client, async () => {
        const checks = await checksSince(cameAt, await findConfig(tenantId))
        return { checks, row: await findConfig(tenantId) }
      })
    },

    /** Checks the stored values, if any, with those of the input laid over them; writes nothing. Returns the row. Throws `MASKED_VALUE`. */
    tryOut: async (tenantId: string, input: ConfigInput, client: AbortSignal): Promise<{ checks: Check[], row: TenantConfigRow | null }> =>
      await tenantQueues.run(tenantId, client, async () => await tryOut(tenantId, input))
  }

  /** The checks of a row: of a run that had not ended when the request came, else of a new one. */
  async function checksSince (cameAt: number, row: TenantConfigRow): Promise<Check[]> {
    const credentials = JSON.stringify([row.id, ...CREDENTIALS.map((name) => row[name])])
    const latest = runs.get(row.tenant_id)
    if (latest !== undefined && latest.credentials === credentials && latest.endedAt > cameAt) return await latest.checks
    const run: VerificationRun = { credentials, checks: checkStored(row).finally(() => { run.endedAt = performance.now() }), endedAt: Infinity }
    runs.set(row.tenant_id, run)
    return await run.checks
  }

  async function tryOut (tenantId: string, input: ConfigInput): Promise<{ checks: Check[], row: TenantConfigRow | null }> {
    const sealed = secrets.seal(tenantId, input)
    const row = await tenantConfigs.find(tenantId)
    const value = (name: WritableColumn) => input[name] === undefined ? row?.[name] ?? null : sealed[name]
    const { checks } = await examine({
      tenant_id: tenantId,
      access_token: value('access_token'),
      waba_id: value('waba_id'),
      phone_number_id: value('phone_number_id'),
      fb_app_id: value('fb_app_id'),
      fb_app_secret: value('fb_app_secret'),
      callback_url: value('callback_url'),
      verify_token: value('verify_token')
    })
    return { checks, row }
  }

  async function findConfig (tenantId: string): Promise<TenantConfigRow> {
    const row = await tenantConfigs.find(tenantId)
    if (row === null) throw new ConfigNotFound()
    return row
  }

  async function checkStored (row: TenantConfigRow): Promise<Check[]> {
    // Read before Meta is asked, so that whatever changes it is newer than what Meta says.
    const health = await tokenWatch.healthOf(row.tenant_id)
    const findings = await examine(row)
    await record(row, health, findings)
    return findings.checks
  }

  async function examine (credentials: Credentials): Promise<Findings> {
    const { fb_app_id: id, fb_app_secret: secret, callback_url: url, verify_token: verifyToken } = credentials
    const expected = { ...credentials, callback_url: url ?? callbackUrl, lacks_verify_token: url !== null && verifyToken === null }
    const { access_token: sealed, tenant_id: tenantId } = credentials
    if (sealed === null) return { checks: checksOf(expected, { token: unusable.missing }), token: null }
    const token = vault.open(sealed, tenantId, 'access_token')
    if (!Value.Check(Token, token)) return { checks: checksOf(expected, { token: unusable.malformed }), token: { reason: 'malformed' } }

    const app = metaApps.of(credentials)
    try {
      return await ask(app, token, expected)
    } catch (err) {
      // The platform's app is none of the tenant's business; its own is.
      if (!(err instanceof MetaAppRejected && id && secret)) throw err
      return { checks: checksOf(expected, { token: adviceFor(err) }), token: null }
    }
  }

  async function ask (app: MetaApp, token: string, expected: Expected): Promise<Findings> {
    const inspected = await answerOrRefusal(metaGraph.inspectToken(app, token))
    const answers = { token: inspected, ...'answer' in inspected ? await askOfAccount(app, token, expected) : {} }
    // A token may end between two questions.
    const refusal = Object.values(answers).map((answer) => 'refusal' in answer ? answer.refusal : null).find((err) => err instanceof MetaTokenInvalid)
    return {
      checks: checksOf(expected, answers),
      token: refusal ? { reason: reasonOf(refusal) } : 'answer' in inspected ? { expires_at: inspected.answer.expires_at } : null
    }
  }

  async function askOfAccount (app: MetaApp, token: string, expected: Expected): Promise<Omit<Answers, 'token'>> {
    const { waba_id: wabaId, phone_number_id: phoneId, callback_url: url } = expected
    if (wabaId === null) return {}
    const phones = await answerOrRefusal(metaGraph.listPhoneNumbers(app, token, wabaId))
    if ('refusal' in phones) return { phones }
    const subscription = await answerOrRefusal(metaGraph.subscriptionOf(app, token, wabaId))
    if (url === null || phoneId === null || !isListed(expected, phones.answer)) return { phones, subscription }
    return { phones, subscription, callback: await answerOrRefusal(metaGraph.effectiveCallback(app, token, phoneId, wabaId)) }
  }

  /** Notes what was found; `before` is what was known of the token when the row was read. */
  async function record (row: TenantConfigRow, before: TokenHealth | null, { checks, token }: Findings): Promise<void> {
    const { tenant_id: tenantId, access_token: sealed, waba_id, phone_number_id } = row
    if (token === null || sealed === null) return
    const isConfirmed = !('reason' in token) && checks.every(({ name, ok }) => ok || !['token', 'assets'].includes(name))
    const changed = new Set([tenantId])
    const { transition, outcome } = await tenantConfigs.inTransaction(changed, async (tx) => {
      const known = await lockWatch(tx, tenantId, sealed)
      if (known === undefined) return { transition: null, outcome: 'changed' }
      let outcome: VerifiedOutcome = 'changed'
      // A claim of the monitor's, or another date, takes nothing away from what Meta confirmed.
      if (isConfirmed && waba_id !== null && known.checked_at === before?.checked_at) {
        outcome = await saveVerifiedIdentity(tx, { tenant_id: tenantId, access_token: sealed, waba_id, phone_number_id }, changed)
      }
      const finding = 'reason' in token ? { valid: false as const, ...token } : { valid: true as const, expires_at: token.expires_at === undefined ? known.expires_at : token.expires_at }
      const { transition } = await tokenWatch.recordIn(tx, tenantId, sealed, finding, before?.next_check_at ?? null)
      return { transition, outcome }
    }, { waba_id, phone_number_id })
    if (transition !== null) tokenWatch.emit(transition)
    if (outcome === 'taken') throw new PhoneNumberTaken()
  }
}

/** Waits for what Meta says; throws what is no refusal. */
async function answerOrRefusal<T> (question: Promise<T>): Promise<AnswerOrRefusal<T>> {
  try {
    return { answer: await question }
  } catch (err) {
    if (isRefusal(err)) return { refusal: err }
    throw err
  }
}

/** Decorates `fastify.verification`. */
async function verification (fastify: FastifyInstance): Promise<void> {
  const { tenantConfigs, tenantQueues, metaApps, metaGraph, tokenWatch, vault, env } = fastify
  const callbackUrl = env.CALLBACK_URL ?? null
  fastify.decorate('verification', createVerification({ tenantConfigs, tenantQueues, metaApps, metaGraph, tokenWatch, vault, callbackUrl }))
}

export default fp(verification, { name: 'verification', dependencies: ['env', 'vault', 'tenant-configs', 'tenant-queues', 'meta-apps', 'meta-graph', 'token-watch'] })
