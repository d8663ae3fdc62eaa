import type { FastifyError } from '@fastify/error'
import { MetaPhoneNotInWaba } from '../errors.js'
import { adviceFor } from '../meta/advice.js'

/** What was found of one side of a tenant's credentials; `detail` is ours, and says what to do where it is not ok. */
export interface Check { name: 'token' | 'assets' | 'subscription' | 'callback', ok: boolean, detail: string }

/** What Meta says to a question: its answer, or why it refuses one. */
export type AnswerOrRefusal<T> = { answer: T } | { refusal: FastifyError }

/** What is to be checked. */
export interface Expected {
  waba_id: string | null
  phone_number_id: string | null
  /** Where the webhooks are to go; null: anywhere. */
  callback_url: string | null
  /** Whether that is the tenant's, and no onboarding tells it to Meta, since there is no verify_token. */
  lacks_verify_token: boolean
}

/** What Meta said; what it was not asked is left out. */
export interface Answers {
  /** A text: why Meta needs not be asked. */
  token: string | AnswerOrRefusal<unknown>
  phones?: AnswerOrRefusal<Array<{ id: string }>>
  subscription?: AnswerOrRefusal<{ override_callback_uri: string | null } | null>
  callback?: AnswerOrRefusal<string | null>
}

type Name = Check['name']

const MISSING = 'with PUT /config, or onboard.'
const ELSEWHERE = 'Meta sends messages elsewhere, or nowhere: onboard again to have them sent to callback_url, or store the URL that is meant with PUT /config.'
const UNVERIFIABLE = 'Meta sends messages elsewhere, or nowhere: no callback_url is told to it without a verify_token. Store a verify_token, then onboard again.'

/** Why a token needs no asking about. */
export const unusable = {
  missing: `There is no access_token: store one ${MISSING}`,
  malformed: 'The access_token is none of Meta\'s, which have visible ASCII characters only: store it again with PUT /config.'
}

/** The four checks, by what Meta said. */
export function checksOf (expected: Expected, answers: Answers): Check[] {
  const token = tokenCheck(answers)
  const assets = token.ok ? assetsCheck(expected, answers) : notAsked('assets', token)
  const subscription = token.ok ? subscriptionCheck(assets, answers) : notAsked('subscription', token)
  return [token, assets, subscription, callbackCheck(expected, answers, [token, assets, subscription])]
}

/** Whether the number is one of the account's; no number is none of them. */
export const isListed = ({ phone_number_id: id }: Expected, phones: Array<{ id: string }>) => phones.some((phone) => phone.id === id)

function tokenCheck ({ token: said }: Answers): Check {
  if (typeof said === 'string') return failed('token', said)
  if ('refusal' in said) return failed('token', adviceFor(said.refusal))
  return passed('token', 'The access token is valid, and was issued for the app.')
}

function assetsCheck (expected: Expected, { phones: said }: Answers): Check {
  if (said === undefined) return failed('assets', `There is no waba_id: store one ${MISSING}`)
  if ('refusal' in said) return failed('assets', adviceFor(said.refusal))
  if (expected.phone_number_id === null) return passed('assets', 'The token sees the account; there is no phone number to look for.')
  if (!isListed(expected, said.answer)) return failed('assets', new MetaPhoneNotInWaba().message)
  return passed('assets', 'The token sees the account, and the phone number belongs to it.')
}

function subscriptionCheck (assets: Check, { subscription: said }: Answers): Check {
  if (said === undefined) return notAsked('subscription', assets)
  if ('refusal' in said) return failed('subscription', adviceFor(said.refusal))
  if (said.answer === null) return failed('subscription', 'The app is not subscribed to the account, so that no webhook comes: onboard again.')
  return passed('subscription', 'The app gets the webhooks of the account.')
}

function callbackCheck ({ callback_url: url, phone_number_id: phoneId, lacks_verify_token: isUnset }: Expected, { subscription, callback }: Answers, before: Check[]): Check {
  if (url === null) return passed('callback', 'No callback_url is expected.')
  // A number has a callback of its own, whatever the subscription says.
  const fault = before.find(({ name, ok }) => !ok && (phoneId === null || name !== 'subscription'))
  if (fault !== undefined) return notAsked('callback', fault)
  const said = phoneId === null ? subscription : callback
  if (said !== undefined && 'refusal' in said) return failed('callback', adviceFor(said.refusal))
  const answer = said?.answer
  const found = typeof answer === 'string' ? answer : answer?.override_callback_uri
  if (isSameUrl(url, found ?? '')) return passed('callback', 'Meta sends messages to the expected callback_url.')
  return failed('callback', isUnset ? UNVERIFIABLE : ELSEWHERE)
}

const passed = (name: Name, detail: string): Check => ({ name, ok: true, detail })
const failed = (name: Name, detail: string): Check => ({ name, ok: false, detail })
const notAsked = (name: Name, fault: Check) => failed(name, `Not asked, because the check of ${fault.name} failed: mend that first.`)

function isSameUrl (one: string, other: string): boolean {
  return one === other || (URL.canParse(one) && URL.canParse(other) && new URL(one).href === new URL(other).href)
}
