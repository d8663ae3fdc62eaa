import { type Static, Type } from '@sinclair/typebox'
import {
  type ErrorClass, MetaAppRejected, MetaCallbackRefused, MetaCodeExpired, MetaCodeInvalid, MetaCodeUsed, MetaExchangeUnknown,
  MetaPermissionMissing, MetaPhoneNotInWaba, MetaRateLimited, MetaRedirectMismatch, MetaRegisterRefused, MetaTokenInvalid,
  MetaUnavailable, MetaUnexpectedReply, MetaWabaNotAccessible
} from '../errors.js'
import { advice, registerAdvice, tokenAdvice } from './advice.js'

/**
 * What a call stands on, and so what a refusal is about: the login's code, the app's own token, the token to be extended,
 * or the customer's token, which goes for a WABA (`customer`), its callback (`override`), a phone number (`phone`) or the
 * registration of one (`register`).
 */
export type Standing = 'code' | 'app' | 'extend' | 'customer' | 'override' | 'phone' | 'register'

/** What a failed call becomes, and what to do about it where Meta's case says more than the class. */
export interface Verdict { throws: ErrorClass, advice?: string | undefined }

/** Meta's error envelope. It promises no more than `code`, so the rest is looked at with care. */
export const ErrorReply = Type.Object({
  error: Type.Object({
    code: Type.Integer(),
    error_subcode: Type.Optional(Type.Unknown()),
    message: Type.Optional(Type.Unknown()),
    is_transient: Type.Optional(Type.Unknown()),
    fbtrace_id: Type.Optional(Type.Unknown())
  })
})
type GraphError = Static<typeof ErrorReply>['error']

interface Rule extends Verdict {
  on?: Standing[]
  codes?: number[]
  subcode?: number
  status?: number
  says?: RegExp
  transient?: true
}

/** What a limit of Meta's counts the calls of. */
export type LimitScope = 'app' | 'account' | 'token'

// Sources: developers.facebook.com/docs/graph-api/overview/rate-limiting and the error page of WhatsApp.
// 17 counts per user and 32 per page: both are known by the token alone. 613 does not tell whose limit it is, and a tenant
// may ask about an account that is not its own: nobody but the token's owner waits for it.
const LIMIT_SCOPES: Record<number, LimitScope> = {
  4: 'app', 341: 'app', 80007: 'account', 80008: 'account', 17: 'token', 32: 'token', 613: 'token'
}
const LIMITS = Object.keys(LIMIT_SCOPES).map(Number)
const PERMISSIONS = [10, ...Array.from({ length: 100 }, (_, i) => 200 + i)]
const PHONE: Standing[] = ['phone', 'register']
const WABA: Standing[] = ['customer', 'override']
const CUSTOMER: Standing[] = [...WABA, ...PHONE]
const TOKEN: Standing[] = [...CUSTOMER, 'extend']

/* The first row whose conditions all hold decides. */
const RULES: Rule[] = [
  // A limit may call itself transient too, so it stands first.
  { codes: LIMITS, throws: MetaRateLimited },
  // So may these, but waiting alone mends none of them.
  ...[133000, 133005, 133006, 133008, 133009, 133010, 133015, 133016].map((code): Rule =>
    ({ on: ['register'], codes: [code], throws: MetaRegisterRefused, advice: registerAdvice[code] })),
  { on: ['register'], codes: [133004], throws: MetaUnavailable },
  { on: ['code'], transient: true, throws: MetaUnavailable, advice: advice.newCode },
  { transient: true, throws: MetaUnavailable },

  { on: ['code'], codes: [100], subcode: 36009, throws: MetaCodeUsed },
  { on: ['code'], codes: [100], subcode: 36007, throws: MetaCodeExpired },
  { on: ['code'], codes: [100], subcode: 36008, throws: MetaRedirectMismatch },
  { on: ['code'], codes: [191], throws: MetaRedirectMismatch },
  { on: ['code'], codes: [100], throws: MetaCodeInvalid },
  // Elsewhere 1 is a passing failure; here it is "Error validating client secret."
  { on: ['code'], codes: [1, 368], throws: MetaAppRejected },
  { on: ['extend'], codes: [1], status: 400, throws: MetaAppRejected },
  { on: ['code'], codes: [2], throws: MetaUnavailable, advice: advice.newCode },

  { codes: [3, 101], throws: MetaAppRejected },
  { codes: [100], says: /appsecret_proof/i, throws: MetaAppRejected },
  { on: ['app'], codes: [102, 190, 368, 2500], throws: MetaAppRejected },
  { on: ['app'], codes: [0], status: 401, throws: MetaAppRejected },
  // The token asked about is the only parameter: it is another app's.
  { on: ['app'], codes: [100], throws: MetaTokenInvalid },

  ...Object.entries(tokenAdvice).map(([subcode, advice]): Rule =>
    ({ on: TOKEN, codes: [190], subcode: Number(subcode), throws: MetaTokenInvalid, advice })),
  { on: TOKEN, codes: [102, 190], throws: MetaTokenInvalid },
  { on: TOKEN, codes: [0], status: 401, throws: MetaTokenInvalid },
  { on: TOKEN, codes: [2500], says: /access token/i, throws: MetaTokenInvalid },
  ...[{ on: WABA, throws: MetaWabaNotAccessible }, { on: PHONE, throws: MetaPhoneNotInWaba }].flatMap((missing): Rule[] => [
    // The version was good enough for the calls before.
    { ...missing, codes: [2500], says: /unknown path/i },
    { ...missing, codes: [100], subcode: 33 },
    // The id is visible, but names something of another kind.
    { ...missing, codes: [100], says: /nonexisting field/i },
    { ...missing, codes: [33, 803] }
  ]),
  { on: CUSTOMER, codes: [368], throws: MetaWabaNotAccessible, advice: advice.policyBlock },
  { on: CUSTOMER, codes: [131031], throws: MetaWabaNotAccessible, advice: advice.accountLocked },

  { on: ['register'], codes: [100], throws: MetaRegisterRefused, advice: registerAdvice[100] },
  { on: ['override'], codes: [2200], throws: MetaCallbackRefused },
  { on: ['override'], codes: [100], says: /before override/i, throws: MetaAppRejected, advice: advice.appWebhook },
  // Only its two parameters are left to be wrong.
  { on: ['override'], codes: [100], throws: MetaCallbackRefused, advice: advice.callbackParameter },

  { codes: PERMISSIONS, throws: MetaPermissionMissing, advice: advice.permission },
  { codes: [1, 2], throws: MetaUnavailable }
]

/** What the limit counts that an answer says is reached; null when it says nothing of a limit. A bare 429 names no account. */
export function limitOf (status: number, error: GraphError | undefined): LimitScope | null {
  return LIMIT_SCOPES[error?.code ?? NaN] ?? (status === 429 ? 'app' : null)
}

/**
 * Names the error of ours that a failed call of the Graph API stands for.
 * Source: developers.facebook.com/docs/graph-api/guides/error-handling and the WhatsApp page support/error-codes.
 *
 * @param on what the call stands on
 * @param status HTTP status of the reply
 * @param error `error` of the reply, undefined when the reply carries no error envelope
 * @returns the class to throw: MetaUnexpectedReply when the reply says nothing we know, but MetaExchangeUnknown when it
 * leaves open what became of a code
 */
export function verdictFor (on: Standing, status: number, error: GraphError | undefined): Verdict {
  // A 5xx leaves open whether the code was spent, whatever its envelope says.
  if (on === 'code' && (error === undefined || status < 400 || status >= 500)) return { throws: MetaExchangeUnknown }
  if (status === 429) return { throws: MetaRateLimited }
  const rule = error !== undefined && status >= 400 ? RULES.find((rule) => applies(rule, on, status, error)) : undefined
  if (rule) return rule
  return status >= 500 ? { throws: MetaUnavailable } : { throws: MetaUnexpectedReply, advice: on === 'code' ? advice.newCode : undefined }
}

function applies (rule: Rule, on: Standing, status: number, error: GraphError): boolean {
  return (rule.on === undefined || rule.on.includes(on)) &&
    (rule.codes === undefined || rule.codes.includes(error.code)) &&
    (rule.subcode === undefined || rule.subcode === error.error_subcode) &&
    (rule.status === undefined || rule.status === status) &&
    (rule.says === undefined || (typeof error.message === 'string' && rule.says.test(error.message))) &&
    (rule.transient === undefined || error.is_transient === true)
}
