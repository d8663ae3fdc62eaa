import type { FastifyError } from '@fastify/error'
import { MetaPermissionMissing, MetaPhoneNotInWaba, MetaTokenInvalid, MetaWabaNotAccessible } from '../errors.js'

const refusals = [MetaTokenInvalid, MetaWabaNotAccessible, MetaPhoneNotInWaba, MetaPermissionMissing]

/** Whether a call failed because Meta refuses it to this token, for good: no trouble on the way, at Meta, or with our app. */
export function isRefusal (err: unknown): err is FastifyError {
  return refusals.some((Refusal) => err instanceof Refusal)
}
