import type { TenantConfigRow } from '../database/schema.js'
import { isRefusal, MetaAppRejected, MetaTokenInvalid } from '../errors.js'
import { adviceFor } from '../meta/advice.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { MetaApp } from '../meta/types.js'
import { reasonOf } from '../token-watch/token-watch.js'
import type { Vault } from '../vault/vault.js'
import {
  checksOf, isListed, unusable, type AnswerOrRefusal, type Answers, type Check, type Expected
} from './checks.js'

/** The columns that are checked. */
export const credentialColumns = [
  'tenant_id', 'access_token', 'waba_id', 'phone_number_id', 'fb_app_id', 'fb_app_secret', 'callback_url',
  'verify_token'
] as const

/** Credentials to be checked, sealed as in a row. */
export type Credentials = Pick<TenantConfigRow, typeof credentialColumns[number]>

/**
 * The checks, and the finding about the token: its expiry (ISO 8601; null: never; undefined: Meta did not say), or the
 * reason why it is invalid. Null: no finding.
 */
export interface Findings {
  checks: Check[]
  token: { expires_at: string | null | undefined } | { reason: string } | null
}

interface ExamineDependencies {
  metaGraph: Pick<
    MetaGraph, 'appOf' | 'isToken' | 'inspectToken' | 'listPhoneNumbers' | 'subscriptionOf' | 'effectiveCallback'
  >
  vault: Pick<Vault, 'open'>
  /** The expected callback of a tenant that stores none. */
  callbackUrl: string | null
}

/** Returns `examine`, which checks credentials against Meta. */
export function createExamine ({ metaGraph, vault, callbackUrl }: ExamineDependencies) {
  /** Throws `SECRET_UNREADABLE`, and a failure that the tenant cannot correct, such as `META_TIMEOUT`. */
  return async function examine (credentials: Credentials): Promise<Findings> {
    const { fb_app_id: id, fb_app_secret: secret, callback_url: url, verify_token: verifyToken } = credentials
    const lacksVerifyToken = url !== null && verifyToken === null
    const expected = { ...credentials, callback_url: url ?? callbackUrl, lacks_verify_token: lacksVerifyToken }
    const { access_token: sealed, tenant_id: tenantId } = credentials
    if (sealed === null) return { checks: checksOf(expected, { token: unusable.missing }), token: null }
    const token = vault.open(sealed, tenantId, 'access_token')
    if (!metaGraph.isToken(token)) {
      return { checks: checksOf(expected, { token: unusable.malformed }), token: { reason: 'malformed' } }
    }

    const app = metaGraph.appOf(credentials)
    try {
      return await ask(app, token, expected)
    } catch (err) {
      // A fault of the platform's app is not the tenant's to correct; one of its own app is.
      if (!(err instanceof MetaAppRejected && id && secret)) throw err
      return { checks: checksOf(expected, { token: adviceFor(err) }), token: null }
    }
  }

  async function ask (app: MetaApp, token: string, expected: Expected): Promise<Findings> {
    const inspected = await answerOrRefusal(metaGraph.inspectToken(app, token))
    const answers = { token: inspected, ...'answer' in inspected ? await askAboutAccount(app, token, expected) : {} }
    // A token may end between two calls.
    const refusal = Object.values(answers).map((answer) => 'refusal' in answer ? answer.refusal : null)
      .find((err) => err instanceof MetaTokenInvalid)
    const expiry = 'answer' in inspected ? { expires_at: inspected.answer.expires_at } : null
    return { checks: checksOf(expected, answers), token: refusal ? { reason: reasonOf(refusal) } : expiry }
  }

  async function askAboutAccount (app: MetaApp, token: string, expected: Expected): Promise<Omit<Answers, 'token'>> {
    const { waba_id: wabaId, phone_number_id: phoneId, callback_url: url } = expected
    if (wabaId === null) return {}
    const phones = await answerOrRefusal(metaGraph.listPhoneNumbers(app, token, wabaId))
    if ('refusal' in phones) return { phones }
    const subscription = await answerOrRefusal(metaGraph.subscriptionOf(app, token, wabaId))
    if (url === null || phoneId === null || !isListed(expected, phones.answer)) return { phones, subscription }
    const callback = await answerOrRefusal(metaGraph.effectiveCallback(app, token, phoneId, wabaId))
    return { phones, subscription, callback }
  }
}

/** Waits for a call of the Graph API. Throws an error that is no refusal. */
async function answerOrRefusal<T> (call: Promise<T>): Promise<AnswerOrRefusal<T>> {
  try {
    return { answer: await call }
  } catch (err) {
    if (isRefusal(err)) return { refusal: err }
    throw err
  }
}
