import { STATUS_CODES } from 'node:http'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import * as errors from '../errors.js'
import { adviceIn, retryAfterIn } from '../meta/advice.js'
import { patterns } from '../schemas/fields.js'
import { PhoneChoice, type Problem } from '../schemas/problem.js'

const RETRY_AFTER_S = 5
// Where nobody knows until when Meta limits calls: it counts those of an hour, and each one that it refuses too.
const RETRY_AFTER_LIMIT_S = 300

const PhoneChoices = Type.Array(PhoneChoice)

/** What Fastify itself says, in our words. */
const errorByFastifyCode: Record<string, errors.ErrorClass> = {
  FST_ERR_VALIDATION: errors.ValidationFailed,
  FST_ERR_BAD_URL: errors.ValidationFailed,
  FST_ERR_CTP_INVALID_JSON_BODY: errors.MalformedJson,
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: errors.MalformedJson,
  FST_ERR_CTP_INVALID_MEDIA_TYPE: errors.UnsupportedMediaType,
  FST_ERR_CTP_BODY_TOO_LARGE: errors.PayloadTooLarge,
  // Only the method QUERY must have one, and no route answers QUERY.
  FST_ERR_ROUTE_MISSING_CONTENT_TYPE: errors.RouteNotFound
}

/** Answers every error as a problem (RFC 9457); of a fault of ours it tells nothing but that, and logs it. */
async function errorHandler (fastify: FastifyInstance): Promise<void> {
  fastify.setErrorHandler(handleError)
}

export default fp(errorHandler, { name: 'error-handler' })

/** Sends the problem for any error that was thrown. */
export function handleError (thrown: FastifyError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const error = toApiError(thrown)
  const status = error.statusCode
  if (status >= 500) request.log.error({ err: thrown }, `answered ${error.code}`)
  // Also for what the guards of the scopes refuse, and for URLs that lead into no scope.
  reply.header('cache-control', 'no-store')
  if (status === 503 || status === 429) {
    reply.header('retry-after', error.code === 'META_RATE_LIMITED' ? retryAfterIn(thrown) ?? RETRY_AFTER_LIMIT_S : RETRY_AFTER_S)
  }
  // Fastify would end the connection, and a client that is still sending might not see the answer. Node reads the rest and drops it.
  if (status === 413) reply.removeHeader('connection')
  if (status === 401) reply.header('www-authenticate', selectChallenge(error.code))
  const advice = adviceIn(thrown)
  const problem: Problem = {
    ...toProblem(error, request.id),
    // What Meta's case asks for says more than what its kind asks for.
    ...(advice === undefined ? {} : { detail: advice }),
    ...(error.code === 'VALIDATION_FAILED' ? { errors: describeFaults(thrown) } : {}),
    ...('confirm' in thrown && typeof thrown.confirm === 'string' ? { confirm: thrown.confirm } : {}),
    ...('phone_numbers' in thrown && Value.Check(PhoneChoices, thrown.phone_numbers) ? { phone_numbers: thrown.phone_numbers.map(pickPhoneChoice) } : {})
  }
  return reply.code(status).type('application/problem+json').serializer(JSON.stringify).send(problem)
}

/** The scheme by which to authenticate where this error is answered (RFC 9110 wants one with every 401). */
export const selectChallenge = (code: string) => code === 'SIGNATURE_INVALID' ? 'HMAC-SHA256' : 'Bearer'

/** The problem for one of our errors. */
export function toProblem ({ statusCode: status, message, code }: InstanceType<errors.ErrorClass>, requestId: string): Problem {
  return { type: 'about:blank', title: String(STATUS_CODES[status]), status, detail: message, code, request_id: requestId }
}

/** Throws `ROUTE_NOT_FOUND`; as a not-found handler it runs behind the guard of its scope. */
export async function throwRouteNotFound (): Promise<never> {
  throw new errors.RouteNotFound()
}

function toApiError ({ code, statusCode = 500 }: FastifyError): InstanceType<errors.ErrorClass> {
  const other = statusCode < 500 ? errors.ValidationFailed : errors.Internal
  const Known = errorByFastifyCode[code] ?? other
  return errors.createErrorByCode(code) ?? new Known()
}

/** What is wrong where: as the schemas found it, or all that can be said of a URL or a value that goes no further. */
function describeFaults ({ validation, validationContext }: FastifyError): NonNullable<Problem['errors']> {
  return validation?.map((fault) => describeFault(fault, validationContext)) ?? [{ field: 'request', message: 'holds what cannot be decoded or stored' }]
}

type Fault = NonNullable<FastifyError['validation']>[number]

// What ajv says of these would show no more than their names.
const formats: Record<string, string> = {
  'date-time': 'must be a date and time with an offset as RFC 3339 has it, such as 2027-01-22T12:00:00Z',
  'web-url': 'must be an absolute https URL without user or password (http only for localhost, outside production)'
}

function describeFault ({ instancePath, keyword, params, message = 'is not usable' }: Fault, context = 'body'): { field: string, message: string } {
  const field = instancePath.slice(1).replaceAll('/', '.') || context
  if (keyword === 'additionalProperties') return { field: hideUnsafeName(params['additionalProperty']), message: 'is not a field of this request' }
  if (keyword === 'required') return { field: String(params['missingProperty']), message: 'is required' }
  return { field, message: patterns[String(params['pattern'])]?.demand ?? formats[String(params['format'])] ?? message }
}

/** The members that are meant for clients, and no more. */
function pickPhoneChoice ({ id, display_phone_number, verified_name }: PhoneChoice): PhoneChoice {
  return { id, display_phone_number, verified_name }
}

/** A misspelled field is worth repeating; anything that does not look like one could be a secret in the wrong place. */
function hideUnsafeName (name: unknown): string {
  return typeof name === 'string' && /^[a-z_]{1,32}$/.test(name) ? name : '(a field that is not shown)'
}
