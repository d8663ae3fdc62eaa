import { STATUS_CODES } from 'node:http'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { formatChallenge } from '../auth/refusal.js'
import * as errors from '../errors.js'
import { adviceIn, retryAfterIn } from '../meta/advice.js'
import { patterns } from '../schemas/fields.js'
import { PhoneChoice, type Problem } from '../schemas/problem.js'

const RETRY_AFTER_S = 5
// For a rate limit without an end known from Meta. Meta counts the calls of an hour, also the refused ones.
const RETRY_AFTER_LIMIT_S = 300

const PhoneChoices = Type.Array(PhoneChoice)

declare module 'fastify' {
  interface FastifyRequest {
    /** The code of the error that the request was answered with; undefined without one. */
    errorCode?: string
  }
}

/** Our errors for those of Fastify. */
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

/** Answers every error as a problem (RFC 9457). A 5xx is logged, and its answer names no cause. */
async function errorHandler (fastify: FastifyInstance): Promise<void> {
  fastify.setErrorHandler(handleError)
}

export default fp(errorHandler, { name: 'error-handler' })

/** Sends the problem for an error. */
export function handleError (thrown: FastifyError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const error = toApiError(thrown)
  const status = error.statusCode
  request.errorCode = error.code
  // Not while overloaded: that would cost more than the refusal, and the line of the request has the status.
  if (status >= 500 && error.code !== 'OVERLOADED') request.log.error({ err: thrown }, `answered ${error.code}`)
  // The hooks of the scopes do not run for URLs outside of them, nor after a guard throws.
  reply.header('cache-control', 'no-store')
  if (status === 503 || status === 429 || error.code === 'IDEMPOTENCY_IN_PROGRESS') {
    const isMetaLimit = error.code === 'META_RATE_LIMITED'
    // A limit of requests a minute has set its own.
    if (!reply.hasHeader('retry-after')) {
      reply.header('retry-after', isMetaLimit ? retryAfterIn(thrown) ?? RETRY_AFTER_LIMIT_S : RETRY_AFTER_S)
    }
  }
  // Fastify would end the connection, and a client that still sends might not see the answer. Node drops the rest.
  if (status === 413) reply.removeHeader('connection')
  if (isChallenged(error)) reply.header('www-authenticate', selectChallenge(error.code, thrown))
  const advice = adviceIn(thrown)
  const problem: Problem = {
    ...toProblem(error, request.id),
    // The advice for Meta's error code is more precise than the detail of ours.
    ...(advice === undefined ? {} : { detail: advice }),
    ...(error.code === 'VALIDATION_FAILED' ? { errors: describeFaults(thrown) } : {}),
    ...('confirm' in thrown && typeof thrown.confirm === 'string' ? { confirm: thrown.confirm } : {}),
    ...('phone_numbers' in thrown && Value.Check(PhoneChoices, thrown.phone_numbers)
      ? { phone_numbers: thrown.phone_numbers.map(pickPhoneChoice) }
      : {})
  }
  return reply.code(status).type('application/problem+json').serializer(JSON.stringify).send(problem)
}

/** Tells whether an error needs a `www-authenticate` challenge, by RFC 9110 (a 401) or RFC 6750 (a scope). */
export function isChallenged ({ code, statusCode }: InstanceType<errors.ErrorClass>): boolean {
  return statusCode === 401 || code === 'SCOPE_MISSING'
}

/** Selects the `www-authenticate` challenge of an error. */
export function selectChallenge (code: string, thrown: object): string {
  return code === 'SIGNATURE_INVALID' ? 'HMAC-SHA256' : formatChallenge(thrown)
}

/** Makes the problem of one of our errors. */
export function toProblem (error: InstanceType<errors.ErrorClass>, requestId: string): Problem {
  const { statusCode: status, message: detail, code } = error
  return { type: 'about:blank', title: String(STATUS_CODES[status]), status, detail, code, request_id: requestId }
}

/** The not-found handler. It runs behind the guard of its scope. */
export async function throwRouteNotFound (): Promise<never> {
  throw new errors.RouteNotFound()
}

function toApiError ({ code, statusCode = 500 }: FastifyError): InstanceType<errors.ErrorClass> {
  const other = statusCode < 500 ? errors.ValidationFailed : errors.Internal
  const Known = errorByFastifyCode[code] ?? other
  return errors.createErrorByCode(code) ?? new Known()
}

/** Describes the faults that ajv found. Without any, the URL or a value could not be decoded or stored. */
function describeFaults ({ validation, validationContext }: FastifyError): NonNullable<Problem['errors']> {
  return validation?.map((fault) => describeFault(fault, validationContext)) ??
    [{ field: 'request', message: 'holds what cannot be decoded or stored' }]
}

type Fault = NonNullable<FastifyError['validation']>[number]

// The messages of ajv would name the format only.
const formatDemands: Record<string, string> = {
  'date-time': 'must be a date and time with an offset as RFC 3339 has it, such as 2027-01-22T12:00:00Z',
  'web-url': 'must be an absolute https URL without user or password (http only for localhost, outside production)'
}

function describeFault (fault: Fault, context = 'body'): { field: string, message: string } {
  const { instancePath, keyword, params, message = 'is not usable' } = fault
  const field = instancePath.slice(1).replaceAll('/', '.') || context
  if (keyword === 'additionalProperties') {
    return { field: hideUnsafeName(params['additionalProperty']), message: 'is not a field of this request' }
  }
  if (keyword === 'required') return { field: String(params['missingProperty']), message: 'is required' }
  const demand = patterns[String(params['pattern'])]?.demand ?? formatDemands[String(params['format'])]
  return { field, message: demand ?? message }
}

/** Keeps the members of the schema: Meta may send more. */
function pickPhoneChoice ({ id, display_phone_number, verified_name }: PhoneChoice): PhoneChoice {
  return { id, display_phone_number, verified_name }
}

/** Keeps a name that looks like a field, which may be misspelled. Any other could be a secret in the wrong place. */
function hideUnsafeName (name: unknown): string {
  return typeof name === 'string' && /^[a-z_]{1,32}$/.test(name) ? name : '(a field that is not shown)'
}
