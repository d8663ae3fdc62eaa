import swagger from '@fastify/swagger'
import type { FastifyInstance, FastifySchema } from 'fastify'
import fp from 'fastify-plugin'
import { Internal, type ErrorClass } from '../errors.js'
import { ConfigPage, Deleted, Stats } from '../schemas/admin.js'
import { FullConfig, MaskedConfig, NoBody, Verification } from '../schemas/config.js'
import { EffectiveConfig } from '../schemas/effective.js'
import { OnboardingRecord, Started } from '../schemas/onboarding.js'
import { patterns } from '../schemas/fields.js'
import { Problem } from '../schemas/problem.js'
import { TokenHealth } from '../schemas/token-health.js'
import apiDocs from './api-docs.js'
import { selectChallenge, toProblem } from './error-handler.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The errors a route answers, for its OpenAPI. */
    errors?: ErrorClass[]
  }
}

const EXAMPLE_REQUEST_ID = '0b7a3a52-8f0e-4a55-9c1e-2f4d1c6b7a10'

/** What the problems of some codes have besides. */
const extraMembers: Record<string, Partial<Problem>> = {
  VALIDATION_FAILED: { errors: [{ field: 'waba_id', message: 'must be string,null' }] },
  CONFIRMATION_REQUIRED: { confirm: 'delete-all:3' },
  META_PHONE_CHOICE_REQUIRED: { phone_numbers: [{ id: '106540352242922', display_phone_number: '+1 631-555-5555', verified_name: 'Lucky Shrub' }] }
}

const NO_STORE = { 'cache-control': { type: 'string', description: 'No cache may keep the answer', examples: ['no-store'] } }

/** The headers that the error handler gives to every answer of a status. */
const retryAfter = { 'retry-after': { type: 'integer', description: 'Seconds to wait before another try', examples: [5] } }
const headersByStatus: Record<string, object> = { 429: retryAfter, 503: retryAfter }

const tags = [
  { name: 'config', description: 'The configuration of the tenant that the token names' },
  { name: 'onboarding', description: 'Connecting a WhatsApp Business Account through Meta' },
  { name: 'webhooks', description: 'What Meta itself calls' },
  { name: 'admin', description: 'All tenants; needs the admin role' },
  { name: 'health', description: 'For load balancers and orchestrators' }
]

/** Describes every route of this scope (OpenAPI 3.1) and serves the description under /docs, unless `docs` or `API_DOCS` is false. */
async function openapi (fastify: FastifyInstance, { docs }: { docs: boolean }): Promise<void> {
  for (const schema of [Problem, MaskedConfig, FullConfig, EffectiveConfig, ConfigPage, Stats, Deleted, Started, OnboardingRecord, TokenHealth, Verification]) fastify.addSchema(schema)
  // A server that we are a part of may describe its own routes: with ours, its document would refer to what it does not have.
  fastify.addHook('onRoute', (route) => { route.schema = { ...route.schema, hide: true } })
  if (!docs || !fastify.env.API_DOCS) return
  await fastify.register(swagger, {
    // Not `swagger`: a server that we are a part of may have its own.
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
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description: 'A JWT (HS256) with `exp` and a tenant or admin claim' } } }
    },
    refResolver: { buildLocalReference: (json) => String(json['$id']) },
    transform: ({ schema: { hide, ...schema }, url, route }) => ({ schema: withHeaders(withErrors(withoutNoBody(schema), route.config?.errors)), url }),
    transformObject: (document) => JSON.parse(JSON.stringify(Object.values(document)[0]), forClients)
  })
  await fastify.register(apiDocs)
}

export default fp(openapi, { name: 'openapi', dependencies: ['env'] })

/** Leaves out a body that nobody needs to send: OpenAPI would call it required. */
function withoutNoBody ({ body, ...schema }: FastifySchema): FastifySchema {
  return body === undefined || body === NoBody ? schema : { ...schema, body }
}

/** A schema with its answers, by status. */
interface AnsweredSchema extends FastifySchema { response: Record<string, { headers?: object }> }

/** Adds the answers for the errors of a route, those with the same status together. */
function withErrors (schema: FastifySchema, listed: ErrorClass[] = []): AnsweredSchema {
  const errors = [...new Set([...listed, Internal])].map((ErrorClass) => new ErrorClass())
  const statuses = new Set(errors.map(({ statusCode }) => statusCode).sort())
  const answers = [...statuses].map((status) => {
    const same = errors.filter(({ statusCode }) => statusCode === status)
    const examples = Object.fromEntries(same.map((error) => [error.code, { value: { ...toProblem(error, EXAMPLE_REQUEST_ID), ...extraMembers[error.code] } }]))
    const headers = status === 401 ? { headers: { 'www-authenticate': { type: 'string', description: 'How to authenticate', examples: same.map(({ code }) => selectChallenge(code)) } } } : {}
    return [status, {
      ...headers,
      description: same.map(({ code }) => `\`${code}\``).join(', '),
      content: { 'application/problem+json': { schema: createProblemSchema(same.map(({ code }) => code)), examples } }
    }]
  })
  return { ...schema, response: Object.assign({}, schema.response, Object.fromEntries(answers)) }
}

/** The schema of a problem that has one of these codes. */
const createProblemSchema = (codes: string[]) => ({ allOf: [{ $ref: 'Problem#' }, { type: 'object', properties: { code: { type: 'string', enum: codes } } }] })

/** Adds the headers that do not depend on the route; nothing that a token opens, and no error, is to be stored. */
function withHeaders (schema: AnsweredSchema): FastifySchema {
  const guarded = schema.security?.length
  const answers = Object.entries(schema.response).map(([status, answer]) => {
    const noStore = guarded || Number(status) >= 400 ? NO_STORE : {}
    return [status, { ...answer, headers: { ...noStore, ...headersByStatus[status], ...answer.headers } }]
  })
  return { ...schema, response: Object.fromEntries(answers) }
}

/** Changes a part of the document, found by its key, into what clients need. */
const forClients: NonNullable<Parameters<typeof JSON.parse>[1]> = (key, value) => {
  switch (key) {
    case 'parameters': return value.map(withUnsentExample)
    case 'requestBody': return withRequired(value)
    case 'pattern': return patterns[value]?.portable ?? value
    default: return value
  }
}

/** A body that may be null need not be sent; @fastify/swagger calls every one required. */
function withRequired ({ required, ...body }: { required: boolean, content: Record<string, { schema: { type?: unknown } }> }) {
  const isNullable = Object.values(body.content).some(({ schema: { type } }) => Array.isArray(type) && type.includes('null'))
  return { ...body, required: required && !isNullable }
}

/** Swagger UI would send the `example` of a parameter unless it is changed, a confirmation too; those of the schema it leaves alone. */
function withUnsentExample ({ example, schema, ...parameter }: { example: unknown, schema: object }) {
  return { ...parameter, schema: { ...schema, examples: [example] } }
}
