import { type Static, Type } from '@sinclair/typebox'
import {
  type ErrorClass, MetaAppRejected, MetaCodeExpired, MetaCodeInvalid, MetaCodeUsed, MetaPermissionMissing,
  MetaRateLimited, MetaRedirectMismatch, MetaTokenInvalid, MetaUnavailable, MetaUnexpectedReply, MetaWabaNotAccessible
} from '../errors.js'

/** What a call stands on, and so what a refusal is about: the login's code, the app's own token or the customer's token. */
export type Standing = 'code' | 'app' | 'customer'

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

interface Rule {
  throws: ErrorClass
  on?: Standing
  codes?: number[]
  subcode?: number
  status?: number
  says?: RegExp
  transient?: true
}

const PERMISSIONS = Array.from({ length: 100 }, (_, i) => 200 + i)

/* The first row whose conditions all hold decides. */
const RULES: Rule[] = [
  // A limit may call itself transient too, so it stands first.
  { codes: [4, 17, 32, 341, 613, 80007, 80008], throws: MetaRateLimited },
  { transient: true, throws: MetaUnavailable },

  { on: 'code', codes: [100], subcode: 36009, throws: MetaCodeUsed },
  { on: 'code', codes: [100], subcode: 36007, throws: MetaCodeExpired },
  { on: 'code', codes: [100], subcode: 36008, throws: MetaRedirectMismatch },
  { on: 'code', codes: [191], throws: MetaRedirectMismatch },
  { on: 'code', codes: [100], throws: MetaCodeInvalid },
  // Elsewhere 1 is a passing failure; here it is "Error validating client secret."
  { on: 'code', codes: [1, 368], throws: MetaAppRejected },

  { codes: [3, 101], throws: MetaAppRejected },
  { codes: [100], says: /appsecret_proof/i, throws: MetaAppRejected },
  { on: 'app', codes: [102, 190, 368, 2500], throws: MetaAppRejected },
  { on: 'app', codes: [0], status: 401, throws: MetaAppRejected },
  // The token asked about is the only parameter: it is another app's.
  { on: 'app', codes: [100], throws: MetaTokenInvalid },

  { on: 'customer', codes: [102, 190], throws: MetaTokenInvalid },
  { on: 'customer', codes: [0], status: 401, throws: MetaTokenInvalid },
  { on: 'customer', codes: [2500], says: /access token/i, throws: MetaTokenInvalid },
  // The version was good enough for the calls before.
  { on: 'customer', codes: [2500], says: /unknown path/i, throws: MetaWabaNotAccessible },
  { on: 'customer', codes: [100], subcode: 33, throws: MetaWabaNotAccessible },
  // The id is visible, but names something else than a WABA.
  { on: 'customer', codes: [100], says: /nonexisting field/i, throws: MetaWabaNotAccessible },
  // 368 and 131031: the account is blocked or locked.
  { on: 'customer', codes: [33, 368, 803, 131031], throws: MetaWabaNotAccessible },

  { codes: [10, ...PERMISSIONS], throws: MetaPermissionMissing },
  { codes: [1, 2], throws: MetaUnavailable }
]

/**
 * Names the error of ours that a failed call of the Graph API stands for.
 * Source: developers.facebook.com/docs/graph-api/guides/error-handling and the WhatsApp page support/error-codes.
 *
 * @param on what the call stands on
 * @param status HTTP status of the reply
 * @param error `error` of the reply, undefined when the reply carries no error envelope
 * @returns the class to throw: MetaUnexpectedReply when the reply says nothing we know
 */
export function metaErrorFor (on: Standing, status: number, error: GraphError | undefined): ErrorClass {
  if (status === 429) return MetaRateLimited
  // A 5xx leaves open whether the code was spent, whatever its envelope says.
  const definite = error !== undefined && status >= 400 && (on !== 'code' || status < 500)
  const rule = definite ? RULES.find((rule) => applies(rule, on, status, error)) : undefined
  return rule?.throws ?? (status >= 500 ? MetaUnavailable : MetaUnexpectedReply)
}

function applies (rule: Rule, on: Standing, status: number, error: GraphError): boolean {
  return (rule.on === undefined || rule.on === on) &&
    (rule.codes === undefined || rule.codes.includes(error.code)) &&
    (rule.subcode === undefined || rule.subcode === error.error_subcode) &&
    (rule.status === undefined || rule.status === status) &&
    (rule.says === undefined || (typeof error.message === 'string' && rule.says.test(error.message))) &&
    (rule.transient === undefined || error.is_transient === true)
}
