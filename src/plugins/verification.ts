import { Value } from '@sinclair/typebox/value'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type Answers, type Check, checksOf, type Expected, isListed, type Said, unusable } from '../credential-checks.js'
import type { WritableColumn } from '../db/tenant-configs.js'
import { lockWatch } from '../db/token-watch.js'
import { saveProof } from '../db/verification.js'
import { ConfigNotFound, MetaAppRejected, MetaTokenInvalid } from '../errors.js'
import { adviceFor } from '../meta-advice.js'
import type { MetaApps } from './meta-apps.js'
import type { MetaApp, MetaGraph } from './meta-graph.js'
import { isRefusal } from './meta-refusals.js'
import { Token } from './meta-transport.js'
import { createRowSecrets, type ConfigInput } from './row-secrets.js'
import type { TenantConfigRow, TenantConfigs } from './tenant-configs.js'
import { reasonOf } from './token-check.js'
import type { TokenHealth, TokenWatch } from './token-watch.js'
import type { Vault } from './vault.js'

declare module 'fastify' {
  interface FastifyInstance { verification: Verification }
}

export type Verification = ReturnType<typeof createVerification>

interface VerificationDependencies {
  tenantConfigs: Pick<TenantConfigs, 'find' | 'inTransaction'>
  metaApps: MetaApps
  metaGraph: Pick<MetaGraph, 'inspectToken' | 'listPhoneNumbers' | 'subscriptionOf' | 'effectiveCallback'>
  tokenWatch: Pick<TokenWatch, 'healthOf' | 'noteIn' | 'announce'>
  vault: Pick<Vault, 'seal' | 'open'>
  /** Where webhooks are to go when the tenant does not say. */
  callbackUrl: string | null
}

/** Credentials to be checked, sealed as in a row. */
type Credentials = Pick<TenantConfigRow, 'tenant_id' | 'access_token' | 'waba_id' | 'phone_number_id' | 'fb_app_id' | 'fb_app_secret' | 'callback_url' | 'verify_token'>

/** What was found; of the token when it expires (undefined: Meta did not say), or why it is of no use, or nothing. */
interface Findings { checks: Check[], token: { expires_at: string | null | undefined } | { reason: string } | null }

/**
 * Proves credentials against Meta. Besides what each method says, both throw `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE` and, having
 * stored nothing, what keeps Meta from being asked or from answering: `META_APP_NOT_CONFIGURED`, `META_APP_REJECTED` of the platform's app,
 * `META_RATE_LIMITED`, `META_UNAVAILABLE`, `META_TIMEOUT`, `META_UNEXPECTED_REPLY`.
 */
export function createVerification ({ tenantConfigs, metaApps, metaGraph, tokenWatch, vault, callbackUrl }: VerificationDependencies) {
  const secrets = createRowSecrets({ vault })
  /** What is under way, by the row that was read. */
  const running = new Map<string, Promise<Check[]>>()

  return {
    /**
     * Checks what is stored, and notes what was found unless something else is stored or noted by then. Returns the row as it is then.
     * Whoever asks while the same is being checked gets that answer.
     * Throws `CONFIG_NOT_FOUND`.
     */
    async verify (tenantId: string): Promise<{ checks: Check[], row: TenantConfigRow }> {
      const row = await found(tenantId)
      // Each write of a row moves updated_at.
      const version = `${row.id} ${row.updated_at}`
      const run = running.get(version) ?? proven(row).finally(() => { running.delete(version) })
      running.set(version, run)
      const checks = await run
      return { checks, row: await found(tenantId) }
    },

    /** Checks the stored values, if any, with those of the input laid over them; writes nothing. Returns the row. Throws `MASKED_VALUE`. */
    async tryOut (tenantId: string, input: ConfigInput): Promise<{ checks: Check[], row: TenantConfigRow | null }> {
      const sealed = secrets.sealed(tenantId, input)
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
  }

  async function found (tenantId: string): Promise<TenantConfigRow> {
    const row = await tenantConfigs.find(tenantId)
    if (row === null) throw new ConfigNotFound()
    return row
  }

  async function proven (row: TenantConfigRow): Promise<Check[]> {
    // Read before Meta is asked, so that whatever changes it is newer than what Meta says.
    const health = await tokenWatch.healthOf(row.tenant_id)
    const findings = await examine(row)
    await note(row, health, findings)
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
    const inspected = await said(metaGraph.inspectToken(app, token))
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
    const phones = await said(metaGraph.listPhoneNumbers(app, token, wabaId))
    if ('refusal' in phones) return { phones }
    const subscription = await said(metaGraph.subscriptionOf(app, token, wabaId))
    if (url === null || phoneId === null || !isListed(expected, phones.answer)) return { phones, subscription }
    return { phones, subscription, callback: await said(metaGraph.effectiveCallback(app, token, phoneId)) }
  }

  /** Notes what was found; `before` is what was known of the token when the row was read. */
  async function note (row: TenantConfigRow, before: TokenHealth | null, { checks, token }: Findings): Promise<void> {
    const { tenant_id: tenantId, access_token: sealed } = row
    if (token === null || sealed === null) return
    const isProven = !('reason' in token) && checks.every(({ name, ok }) => ok || !['token', 'assets'].includes(name))
    const transition = await tenantConfigs.inTransaction(tenantId, async (tx) => {
      const known = await lockWatch(tx, tenantId, sealed)
      if (known === undefined) return null
      // A claim of the monitor's, or another date, takes nothing away from the proof.
      if (isProven && known.checked_at === before?.checked_at) await saveProof(tx, row)
      const finding = 'reason' in token ? { valid: false as const, ...token } : { valid: true as const, expires_at: token.expires_at === undefined ? known.expires_at : token.expires_at }
      return (await tokenWatch.noteIn(tx, tenantId, sealed, finding, String(before?.next_check_at))).transition
    })
    if (transition !== null) tokenWatch.announce(transition)
  }
}

/** Waits for what Meta says; throws what is no refusal. */
async function said<T> (question: Promise<T>): Promise<Said<T>> {
  try {
    return { answer: await question }
  } catch (err) {
    if (isRefusal(err)) return { refusal: err }
    throw err
  }
}

/** Decorates `fastify.verification`. */
async function verification (fastify: FastifyInstance): Promise<void> {
  const { tenantConfigs, metaApps, metaGraph, tokenWatch, vault, env } = fastify
  fastify.decorate('verification', createVerification({ tenantConfigs, metaApps, metaGraph, tokenWatch, vault, callbackUrl: env.CALLBACK_URL ?? null }))
}

export default fp(verification, { name: 'verification', dependencies: ['env', 'vault', 'tenant-configs', 'meta-apps', 'meta-graph', 'token-watch'] })
