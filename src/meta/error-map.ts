import type { StaticDecode } from '@sinclair/typebox'
import {
  type ErrorClass, MetaAppRejected, MetaCallbackRefused, MetaCodeExpired, MetaCodeInvalid, MetaCodeUsed,
  MetaExchangeUnknown, MetaPermissionMissing, MetaPhoneNotInWaba, MetaRateLimited, MetaRedirectMismatch,
  MetaRegisterRefused, MetaTokenInvalid, MetaUnavailable, MetaUnexpectedReply, MetaWabaNotAccessible
} from '../errors.js'
import { advice, registerAdvice, tokenAdvice } from './advice.js'
import type { ErrorReply } from './replies.js'
import type { Subject } from './types.js'

/** The error class of a failed call, and the advice of Meta's case where there is one. */
export interface MappedError { throws: ErrorClass, advice?: string | undefined }

type GraphError = StaticDecode<typeof ErrorReply>['error']

interface Rule extends MappedError {
  subjects?: Subject[]
  codes?: number[]
  subcode?: number
  status?: number
  says?: RegExp
  transient?: true
}

/** The subject whose calls a limit of Meta's counts. */
export type LimitScope = 'app' | 'account' | 'token'

// Sources: developers.facebook.com/docs/graph-api/overview/rate-limiting and the error page of WhatsApp.
// 17 counts per user and 32 per page: both are known by the token alone. 613 names no subject. As an account's it would
// block other tenants, for a tenant may ask about an account that is not its own.
const LIMIT_SCOPES: Record<number, LimitScope> = {
  4: 'app', 341: 'app', 80007: 'account', 80008: 'account', 17: 'token', 32: 'token', 613: 'token'
}
const LIMITS = Object.keys(LIMIT_SCOPES).map(Number)
const PERMISSIONS = [10, ...Array.from({ length: 100 }, (_, i) => 200 + i)]
const PHONE: Subject[] = ['phone', 'register']
const WABA: Subject[] = ['customer', 'override']
const CUSTOMER: Subject[] = [...WABA, ...PHONE]
const TOKEN: Subject[] = [...CUSTOMER, 'extend']

/** The first rule whose conditions all hold decides. */
const RULES: Rule[] = [
  // Before the transient ones: a limit may be marked transient too.
  { codes: LIMITS, throws: MetaRateLimited },
  // These may be marked transient too, but no retry mends them.
  ...[133000, 133005, 133006, 133008, 133009, 133010, 133015, 133016].map((code): Rule =>
    ({ subjects: ['register'], codes: [code], throws: MetaRegisterRefused, advice: registerAdvice[code] })),
  { subjects: ['register'], codes: [133004], throws: MetaUnavailable },
  { subjects: ['code'], transient: true, throws: MetaUnavailable, advice: advice.newCode },
  { transient: true, throws: MetaUnavailable },

  { subjects: ['code'], codes: [100], subcode: 36009, throws: MetaCodeUsed },
  { subjects: ['code'], codes: [100], subcode: 36007, throws: MetaCodeExpired },
  { subjects: ['code'], codes: [100], subcode: 36008, throws: MetaRedirectMismatch },
  { subjects: ['code'], codes: [191], throws: MetaRedirectMismatch },
  { subjects: ['code'], codes: [100], throws: MetaCodeInvalid },
  // Elsewhere 1 is a passing failure; here it is "Error validating client secret."
  { subjects: ['code'], codes: [1, 368], throws: MetaAppRejected },
  { subjects: ['extend'], codes: [1], status: 400, throws: MetaAppRejected },
  { subjects: ['code'], codes: [2], throws: MetaUnavailable, advice: advice.newCode },

  { codes: [3, 101], throws: MetaAppRejected },
  { codes: [100], says: /appsecret_proof/i, throws: MetaAppRejected },
  { subjects: ['app'], codes: [102, 190, 368, 2500], throws: MetaAppRejected },
  { subjects: ['app'], codes: [0], status: 401, throws: MetaAppRejected },
  // The inspected token is the only parameter: it is another app's.
  { subjects: ['app'], codes: [100], throws: MetaTokenInvalid },

  ...Object.entries(tokenAdvice).map(([subcode, advice]): Rule =>
    ({ subjects: TOKEN, codes: [190], subcode: Number(subcode), throws: MetaTokenInvalid, advice })),
  { subjects: TOKEN, codes: [102, 190], throws: MetaTokenInvalid },
  { subjects: TOKEN, codes: [0], status: 401, throws: MetaTokenInvalid },
  { subjects: TOKEN, codes: [2500], says: /access token/i, throws: MetaTokenInvalid },
  ...[
    { subjects: WABA, throws: MetaWabaNotAccessible },
    { subjects: PHONE, throws: MetaPhoneNotInWaba }
  ].flatMap((missing): Rule[] => [
    // Not a wrong version: the calls before used the same.
    { ...missing, codes: [2500], says: /unknown path/i },
    { ...missing, codes: [100], subcode: 33 },
    // The id is visible, but is no WABA or phone number.
    { ...missing, codes: [100], says: /nonexisting field/i },
    { ...missing, codes: [33, 803] }
  ]),
  { subjects: CUSTOMER, codes: [368], throws: MetaWabaNotAccessible, advice: advice.policyBlock },
  { subjects: CUSTOMER, codes: [131031], throws: MetaWabaNotAccessible, advice: advice.accountLocked },

  { subjects: ['register'], codes: [100], subcode: 2388092, throws: MetaRegisterRefused, advice: advice.pinFormat },
  { subjects: ['register'], codes: [100], throws: MetaRegisterRefused, advice: registerAdvice[100] },
  { subjects: ['override'], codes: [2200], throws: MetaCallbackRefused },
  {
    subjects: ['override'],
    codes: [100],
    says: /before override/i,
    throws: MetaAppRejected,
    advice: advice.appWebhook
  },
  // Only its two parameters can be wrong.
  { subjects: ['override'], codes: [100], throws: MetaCallbackRefused, advice: advice.callbackParameter },

  { codes: PERMISSIONS, throws: MetaPermissionMissing, advice: advice.permission },
  { codes: [1, 2], throws: MetaUnavailable }
]

/**
 * Returns the scope of the limit that an answer reports; null without one. A 429 without a code counts as the app's.
 */
export function limitScopeOf (status: number, error: GraphError | undefined): LimitScope | null {
  return LIMIT_SCOPES[error?.code ?? NaN] ?? (status === 429 ? 'app' : null)
}

/**
 * Maps a failed call of the Graph API to our error.
 * Source: developers.facebook.com/docs/graph-api/guides/error-handling and the WhatsApp page support/error-codes.
 *
 * @param status HTTP status of the reply
 * @param error `error` of the reply, undefined when the reply carries no error envelope
 * @returns the class to throw: MetaUnexpectedReply when no rule fits, MetaCodeInvalid for a code; MetaExchangeUnknown
 * when the code may be spent
 */
export function mapGraphError (subject: Subject, status: number, error: GraphError | undefined): MappedError {
  const refusesCode = { throws: MetaCodeInvalid, advice: advice.newCode }
  if (subject === 'code') {
    // Only a 4xx refuses. After a 5xx the code may be spent, also with an error envelope; a 200 with one contradicts
    // itself.
    if (error === undefined || status < 400 || status >= 500) return { throws: MetaExchangeUnknown }
    // A limit or an outage without a code of Meta's would count as a call that was not sent.
    if (error.code === null) return refusesCode
  }
  if (status === 429) return { throws: MetaRateLimited }
  const rule = error !== undefined && status >= 400 &&
    RULES.find((rule) => applies(rule, subject, status, error))
  if (rule) return rule
  if (status >= 500) return { throws: MetaUnavailable }
  return subject === 'code' ? refusesCode : { throws: MetaUnexpectedReply }
}

function applies (rule: Rule, subject: Subject, status: number, error: GraphError): boolean {
  return (rule.subjects === undefined || rule.subjects.includes(subject)) &&
    (rule.codes === undefined || (error.code !== null && rule.codes.includes(error.code))) &&
    (rule.subcode === undefined || rule.subcode === error.error_subcode) &&
    (rule.status === undefined || rule.status === status) &&
    (rule.says === undefined || rule.says.test(error.message ?? '')) &&
    (rule.transient === undefined || error.is_transient === rule.transient)
}
