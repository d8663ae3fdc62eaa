import type { TenantConfigRow } from '../database/schema/tenant-configs.js'
import { isRefusal, MetaAppRejected, MetaTokenInvalid, MetaWabaNotAccessible } from '../errors.js'
import type { PhoneNumber } from '../meta/accounts.js'
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

/** When a token ends (ISO 8601; null: never; undefined: Meta did not say). */
interface Ends { expires_at: string | null | undefined, data_access_ends_at: string | null | undefined }

/**
 * The checks, and the findings about the token: its ends, or the reason why it is invalid (null: no finding), and about
 * the number (null: the account does not have it; undefined: no finding).
 */
export interface Findings {
  checks: Check[]
  token: Ends | { reason: string } | null
  phone?: PhoneNumber | null | undefined
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
    const checks = checksOf(expected, answers)
    if (refusal !== undefined) return { checks, token: { reason: reasonOf(refusal) } }
    return { checks, token: 'answer' in inspected ? inspected.answer : null, phone: phoneOf(expected, answers) }
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

/** Returns what Meta told of the number; null: the account does not have it; undefined: nothing. */
function phoneOf (
  { phone_number_id: id }: Expected, { phones }: { phones?: AnswerOrRefusal<PhoneNumber[]> }
): PhoneNumber | null | undefined {
  if (id === null || phones === undefined) return undefined
  if ('answer' in phones) return phones.answer.find((phone) => phone.id === id) ?? null
  return phones.refusal instanceof MetaWabaNotAccessible ? null : undefined
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
