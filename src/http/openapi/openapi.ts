import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'
import swagger from '@fastify/swagger'
import type { FastifyInstance, FastifySchema } from 'fastify'
import fp from 'fastify-plugin'
import { refuseScope } from '../../auth/refusal.js'
import { Internal, type ErrorClass } from '../../errors.js'
import { AuditPage, AuditRecord } from '../../schemas/audit-log/records.js'
import { ConfigPage, Deleted, Stats } from '../../schemas/admin.js'
import { FullConfig, MaskedConfig, NoBody, Verification } from '../../schemas/config.js'
import { EffectiveConfig } from '../../schemas/effective.js'
import { EventPage, EventState } from '../../schemas/events.js'
import { patterns } from '../../schemas/fields.js'
import { OnboardingRecord, Started } from '../../schemas/onboarding.js'
import { Problem } from '../../schemas/problem.js'
import { Resolved, ResolvedConfig } from '../../schemas/services/resolve.js'
import { NewServiceKey, ServiceKey, ServiceKeyPage } from '../../schemas/services/service-keys.js'
import { TokenHealth } from '../../schemas/token-health.js'
import { Restored, Version, VersionPage } from '../../schemas/history/versions.js'
import apiDocs from './api-docs.js'
import { isChallenged, selectChallenge, toProblem } from '../error-handler.js'
import { memoized } from '../memoized.js'

const EXAMPLE_SCOPE = 'tenant-config:reveal'
const EXAMPLE_REQUEST_ID = '0b7a3a52-8f0e-4a55-9c1e-2f4d1c6b7a10'

const phone_numbers = [
  { id: '106540352242922', display_phone_number: '+1 631-555-5555', verified_name: 'Lucky Shrub' }
]

/** The additional members in the examples of some problems. */
const extraMembers: Record<string, Partial<Problem>> = {
  VALIDATION_FAILED: { errors: [{ field: 'waba_id', message: 'must be string,null' }] },
  CONFIRMATION_REQUIRED: { confirm: 'delete-all:3' },
  META_PHONE_CHOICE_REQUIRED: { phone_numbers },
  META_NUMBER_CHANGED: { phone_numbers }
}

const noStore = {
  'cache-control': { type: 'string', description: 'No cache may keep the answer', examples: ['no-store'] }
}

const retryAfter = {
  'retry-after': { type: 'integer', description: 'Seconds to wait before another try', examples: [5] }
}

const rateLimit = Object.fromEntries([
  ['ratelimit-limit', 'Requests that the limit of a minute allows', 600],
  ['ratelimit-remaining', 'Requests that are left in this minute', 0],
  ['ratelimit-reset', 'Seconds until it ends', 5]
].map(([name, description, example]) => [name, { type: 'integer', description, examples: [example] }]))

/** The headers that depend on the status. */
const headersByStatus: Record<string, object> = { 429: { ...retryAfter, ...rateLimit }, 503: retryAfter }

const tags = [
  { name: 'config', description: 'The configuration of the tenant that the token names' },
  { name: 'onboarding', description: 'Connecting a WhatsApp Business Account through Meta' },
  { name: 'resolve', description: 'What code of the platform reads, with a service key' },
  { name: 'webhooks', description: 'What Meta itself calls' },
  { name: 'admin', description: 'All tenants; needs the admin role' },
  { name: 'health', description: 'For load balancers and orchestrators' }
]

/** The schemas that routes refer to by `$id`. */
const schemas = [
  Problem,
  MaskedConfig,
  FullConfig,
  EffectiveConfig,
  ConfigPage,
  Stats,
  Deleted,
  Started,
  OnboardingRecord,
  TokenHealth,
  Verification,
  EventState,
  EventPage,
  VersionPage,
  Version,
  Restored,
  AuditRecord,
  AuditPage,
  ServiceKey,
  NewServiceKey,
  ServiceKeyPage,
  ResolvedConfig,
  Resolved
]

/** Finds the schemas that one refers to, also through others: the compiler would examine all that it gets. */
function findReferred (schema: object): Record<string, object> {
  const text = JSON.stringify(schema)
  const referred = schemas.filter(({ $id }) => text.includes(`"$ref":"${$id}"`))
  return Object.assign({}, ...referred.map(findReferred), Object.fromEntries(referred.map((one) => [one.$id, one])))
}

/** Describes the routes of this scope (OpenAPI 3.1). Serves that under /docs unless `docs` or `API_DOCS` is false. */
async function openapi (fastify: FastifyInstance, { docs }: { docs: boolean }): Promise<void> {
  for (const schema of schemas) fastify.addSchema(schema)
  const createCompiler = SerializerSelector()
  const compileOnce = memoized((schema) =>
    createCompiler(findReferred(schema))({ schema, method: '', url: '', httpStatus: '' }))
  fastify.setSerializerCompiler<object>(({ schema }) => compileOnce(schema))
  // A host server may describe its own routes. Ours would refer to schemas that its document lacks.
  fastify.addHook('onRoute', (route) => { route.schema = { ...route.schema, hide: true } })
  if (!docs || !fastify.env.API_DOCS) return
  await fastify.register(swagger, {
    // Not `swagger`: the host server may have that decorator.
    decorator: 'openapiDocument',
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'whatsapp-tenant-config',
        version: '0.1.0',
        description: 'Onboards, seals and serves the WhatsApp Business credentials of many tenants.',
        license: { name: 'MIT', identifier: 'MIT' }
      },
      servers: [{ url: '/' }],
      tags,
      components: {
        securitySchemes: {
          bearer: {
            type: 'http',
            scheme: 'bearer',
            bearerFormat: 'JWT',
            description: 'A JWT with `exp` and a tenant claim or a role, signed by the identity provider ' +
              '(RS256, PS256, ES256, EdDSA) or with JWT_SECRET (HS256)'
          },
          serviceKey: {
            type: 'http',
            scheme: 'bearer',
            bearerFormat: 'wtc_<id>_<secret>',
            description: 'A service key with the scope that is listed; POST /admin/service-keys creates one'
          }
        }
      }
    },
    refResolver: { buildLocalReference: (json) => String(json['$id']) },
    transform: ({ schema: { hide, ...schema }, url, route }) => ({
      schema: addHeaders(addErrors(removeEmptyBody(schema), route.config?.errors)),
      url
    }),
    transformObject: (document) => JSON.parse(JSON.stringify(Object.values(document)[0]), adaptForClients)
  })
  await fastify.register(apiDocs)
}

export default fp(openapi, { name: 'openapi', dependencies: ['env'] })

/** Removes the schema of an empty body: OpenAPI would call it required. */
function removeEmptyBody ({ body, ...schema }: FastifySchema): FastifySchema {
  return body === undefined || body === NoBody ? schema : { ...schema, body }
}

interface AnsweredSchema extends FastifySchema { response: Record<string, { headers?: object }> }

/** Adds the answers for the errors of a route, by status. */
function addErrors (schema: FastifySchema, listed: ErrorClass[] = []): AnsweredSchema {
  const errors = [...new Set([...listed, Internal])].map((ErrorClass) => new ErrorClass())
  const statuses = new Set(errors.map(({ statusCode }) => statusCode).sort())
  const answers = [...statuses].map((status) => {
    const same = errors.filter(({ statusCode }) => statusCode === status)
    const codes = same.map(({ code }) => code)
    const examples = Object.fromEntries(same.map((error) => [
      error.code,
      { value: { ...toProblem(error, EXAMPLE_REQUEST_ID), ...extraMembers[error.code] } }
    ]))
    return [status, {
      ...(same.some(isChallenged) ? { headers: createChallengeHeader(same.filter(isChallenged)) } : {}),
      ...(codes.includes('IDEMPOTENCY_IN_PROGRESS') ? { headers: retryAfter } : {}),
      description: codes.map((code) => `\`${code}\``).join(', '),
      content: { 'application/problem+json': { schema: createProblemSchema(codes), examples } }
    }]
  })
  return { ...schema, response: Object.assign({}, schema.response, Object.fromEntries(answers)) }
}

/** Describes the header of errors that need a challenge. */
function createChallengeHeader (errors: Array<InstanceType<ErrorClass>>): object {
  return {
    'www-authenticate': {
      type: 'string',
      description: 'How to authenticate; `error` and `error_description` say why a token was refused (RFC 6750)',
      examples: errors.map(({ code }) =>
        selectChallenge(code, code === 'SCOPE_MISSING' ? refuseScope(EXAMPLE_SCOPE) : {}))
    }
  }
}

/** Restricts the problem schema to these codes. */
function createProblemSchema (codes: string[]): object {
  return {
    allOf: [{ $ref: 'Problem#' }, { type: 'object', properties: { code: { type: 'string', enum: codes } } }]
  }
}

/** Adds the headers that depend on status and guard: no cache may store errors or guarded answers. */
function addHeaders (schema: AnsweredSchema): FastifySchema {
  const isGuarded = schema.security !== undefined && schema.security.length > 0
  const answers = Object.entries(schema.response).map(([status, answer]) => {
    const cacheControl = isGuarded || Number(status) >= 400 ? noStore : {}
    return [status, { ...answer, headers: { ...cacheControl, ...headersByStatus[status], ...answer.headers } }]
  })
  return { ...schema, response: Object.fromEntries(answers) }
}

/** Adapts a part of the document, found by its key, to the needs of clients. A reviver for `JSON.parse`. */
const adaptForClients: NonNullable<Parameters<typeof JSON.parse>[1]> = (key, value) => {
  switch (key) {
    case 'parameters': return value.map(moveExample)
    case 'requestBody': return setRequired(value)
    case 'pattern': return patterns[value]?.portable ?? value
    default: return value
  }
}

interface RequestBody {
  required: boolean
  content: Record<string, { schema: { type?: unknown } }>
}

/** Makes a body optional that may be null: @fastify/swagger calls every body required. */
function setRequired ({ required, ...body }: RequestBody) {
  const isNullable = Object.values(body.content)
    .some(({ schema: { type } }) => Array.isArray(type) && type.includes('null'))
  return { ...body, required: required && !isNullable }
}

/** Moves the example of a parameter to its schema. Swagger UI would send it from here, a confirmation too. */
function moveExample ({ example, schema, ...parameter }: { example: unknown, schema: object }) {
  return { ...parameter, schema: { ...schema, examples: [example] } }
}
