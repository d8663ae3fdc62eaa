import type { FastifyError } from 'fastify'
import { ScopeMissing, Unauthenticated } from '../errors.js'

/** The checks of a token, with what `error_description` says when one fails: nothing that the token holds. */
const descriptions = {
  form: 'The token is malformed',
  extension: 'The token needs an extension that is not supported',
  algorithm: 'The algorithm of the token is not accepted',
  key: 'No key that is accepted signed the token',
  signature: 'The signature of the token is invalid',
  times: 'A time of the token is missing or is not a number',
  expiry: 'The token has expired',
  start: 'The token is not valid yet',
  issuer: 'The issuer of the token is not accepted',
  audience: 'The audience of the token is not accepted',
  subject: 'The subject of the token is unusable',
  serviceKey: 'The service key is unknown or deleted'
}

export type TokenCheck = keyof typeof descriptions

/** The checks that fail with an error of fast-jwt, by its code. Any other code means a malformed token. */
const checksByCode: Record<string, TokenCheck> = {
  FAST_JWT_INVALID_SIGNATURE: 'signature',
  FAST_JWT_MISSING_SIGNATURE: 'signature',
  FAST_JWT_VERIFY_ERROR: 'signature',
  FAST_JWT_EXPIRED: 'expiry',
  FAST_JWT_INACTIVE: 'start',
  FAST_JWT_INVALID_CLAIM_TYPE: 'times',
  FAST_JWT_INVALID_CLAIM_VALUE: 'times'
}

const challenges = new WeakMap<object, string>()

/** Creates the error for a token that fails a check. */
export function refuse (check: TokenCheck): FastifyError {
  const error = new Unauthenticated()
  challenges.set(error, `Bearer error="invalid_token", error_description="${descriptions[check]}"`)
  return error
}

/** Creates the error for a token without a scope. */
export function refuseScope (scope: string): FastifyError {
  const error = new ScopeMissing()
  challenges.set(error, `Bearer error="insufficient_scope", scope="${scope}"`)
  return error
}

/** Creates our error for one that fast-jwt throws. */
export function refuseAs (thrown: unknown): FastifyError {
  return refuse(checksByCode[String(Object(thrown).code)] ?? 'form')
}

/**
 * Formats the `www-authenticate` challenge for an error (RFC 6750, section 3). Only an error of `refuse` and
 * `refuseScope` has a reason: the others mean that no token came.
 */
export function formatChallenge (err: object): string {
  return challenges.get(err) ?? 'Bearer'
}
