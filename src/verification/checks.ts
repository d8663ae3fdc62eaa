import type { FastifyError } from '@fastify/error'
import { MetaPhoneNotInWaba } from '../errors.js'
import type { PhoneNumber } from '../meta/accounts.js'
import { adviceFor } from '../meta/advice.js'

/** The result of one check of a tenant's credentials; `detail` is our text, with advice for a check that failed. */
export interface Check { name: 'token' | 'assets' | 'subscription' | 'callback', ok: boolean, detail: string }

/** The outcome of a call to Meta: its answer, or its refusal. */
export type AnswerOrRefusal<T> = { answer: T } | { refusal: FastifyError }

/** The values to check. */
export interface Expected {
  waba_id: string | null
  phone_number_id: string | null
  /** The URL that webhooks should go to; null: any. */
  callback_url: string | null
  /** Whether that is the tenant's, but is not set at Meta for want of a verify_token. */
  lacks_verify_token: boolean
}

/** The outcomes of the calls to Meta; a call that was not made has none. */
export interface Answers {
  /** A text: why no call was needed. */
  token: string | AnswerOrRefusal<unknown>
  phones?: AnswerOrRefusal<PhoneNumber[]>
  subscription?: AnswerOrRefusal<{ override_callback_uri: string | null } | null>
  callback?: AnswerOrRefusal<string | null>
}

type Name = Check['name']

const MISSING = 'with PUT /config, or onboard.'
const ELSEWHERE = 'Meta sends messages elsewhere, or nowhere: ' +
  'onboard again to have them sent to callback_url, or store the URL that is meant with PUT /config.'
const UNVERIFIABLE = 'Meta sends messages elsewhere, or nowhere: ' +
  'no callback_url is told to it without a verify_token. Store a verify_token, then onboard again.'

/** The details of tokens that need no call. */
export const unusable = {
  missing: `There is no access_token: store one ${MISSING}`,
  malformed: 'The access_token is none of Meta\'s, which have visible ASCII characters only: ' +
    'store it again with PUT /config.'
}

/** Derives the four checks from the answers of Meta. */
export function checksOf (expected: Expected, answers: Answers): Check[] {
  const token = tokenCheck(answers)
  const assets = token.ok ? assetsCheck(expected, answers) : notAsked('assets', token)
  const subscription = token.ok ? subscriptionCheck(assets, answers) : notAsked('subscription', token)
  return [token, assets, subscription, callbackCheck(expected, answers, [token, assets, subscription])]
}

/** Whether the account has the number; false without a number. */
export const isListed = ({ phone_number_id: id }: Expected, phones: Array<{ id: string }>) =>
  phones.some((phone) => phone.id === id)

function tokenCheck ({ token }: Answers): Check {
  if (typeof token === 'string') return failed('token', token)
  if ('refusal' in token) return failed('token', adviceFor(token.refusal))
  return passed('token', 'The access token is valid, and was issued for the app.')
}

function assetsCheck (expected: Expected, { phones }: Answers): Check {
  if (phones === undefined) return failed('assets', `There is no waba_id: store one ${MISSING}`)
  if ('refusal' in phones) return failed('assets', adviceFor(phones.refusal))
  if (expected.phone_number_id === null) {
    return passed('assets', 'The token sees the account; there is no phone number to look for.')
  }
  if (!isListed(expected, phones.answer)) return failed('assets', new MetaPhoneNotInWaba().message)
  return passed('assets', 'The token sees the account, and the phone number belongs to it.')
}

function subscriptionCheck (assets: Check, { subscription }: Answers): Check {
  if (subscription === undefined) return notAsked('subscription', assets)
  if ('refusal' in subscription) return failed('subscription', adviceFor(subscription.refusal))
  if (subscription.answer === null) {
    return failed('subscription', 'The app is not subscribed to the account, so that no webhook comes: onboard again.')
  }
  return passed('subscription', 'The app gets the webhooks of the account.')
}

function callbackCheck (expected: Expected, { subscription, callback }: Answers, before: Check[]): Check {
  const { callback_url: url, phone_number_id: phoneId, lacks_verify_token: lacksVerifyToken } = expected
  if (url === null) return passed('callback', 'No callback_url is expected.')
  // The callback of a number needs no subscription.
  const fault = before.find(({ name, ok }) => !ok && (phoneId === null || name !== 'subscription'))
  if (fault !== undefined) return notAsked('callback', fault)
  const outcome = phoneId === null ? subscription : callback
  if (outcome !== undefined && 'refusal' in outcome) return failed('callback', adviceFor(outcome.refusal))
  const answer = outcome?.answer
  const found = typeof answer === 'string' ? answer : answer?.override_callback_uri
  if (isSameUrl(url, found ?? '')) return passed('callback', 'Meta sends messages to the expected callback_url.')
  return failed('callback', lacksVerifyToken ? UNVERIFIABLE : ELSEWHERE)
}

const passed = (name: Name, detail: string): Check => ({ name, ok: true, detail })
const failed = (name: Name, detail: string): Check => ({ name, ok: false, detail })
const notAsked = (name: Name, fault: Check) =>
  failed(name, `Not asked, because the check of ${fault.name} failed: mend that first.`)

function isSameUrl (one: string, other: string): boolean {
  return one === other || (URL.canParse(one) && URL.canParse(other) && new URL(one).href === new URL(other).href)
}
