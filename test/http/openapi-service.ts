import { Ajv2020 } from 'ajv/dist/2020.js'
import Fastify from 'fastify'
import type { Test } from 'tap'
import whatsappTenantConfig from '../../src/app.js'
import {
  examplesOf as examplesIn, operationsOf, type Described, type Document, type Operation, type Schema
} from './openapi-document.js'
import { baseEnv, createDatabase } from '../helper.js'

interface Response {
  statusCode: number
  headers: Record<string, unknown>
  body: unknown
}

/** Starts a service that is not listening, and reads its OpenAPI document. */
export async function openapiService (t: Test) {
  /** Method and path of every registered route. */
  const routes: string[] = []
  const fastify = Fastify()
  t.teardown(() => fastify.close())
  fastify.addHook('onRoute', ({ method, url }) => { routes.push(...[method].flat().map((name) => `${name} ${url}`)) })
  await fastify.register(whatsappTenantConfig, { env: { ...baseEnv, DATABASE_URL: await createDatabase(t) } })
  const document = (await fastify.inject('/docs/json')).json<Document>()
  const operations = operationsOf(document)

  const { components } = document
  const formats = { 'date-time': (text: string) => !Number.isNaN(Date.parse(text)), 'web-url': URL.canParse }
  const ajv = new Ajv2020({ strict: false, formats })
  const examplesOf = (part: Described) => examplesIn(part, components)

  /** Asserts that a value matches a schema of the document. */
  function assertMatches (t: Test, schema: Schema, value: unknown, where: string) {
    const check = ajv.compile({ ...schema, components })
    t.ok(check(value), where, { found: check.errors })
  }

  /**
   * Asserts that a response has the body and the headers that are described for its status. Of the headers listed
   * below it has no others.
   */
  function assertDescribed (t: Test, id: string, { statusCode, headers, body }: Response) {
    const operation = operations.find(({ operation }) => operation.operationId === id)?.operation
    const { headers: described = {}, content = {} } = operation?.responses[statusCode] ?? {}
    const listed = ['cache-control', 'etag', 'location', 'retry-after', 'www-authenticate']
    t.strictSame(Object.keys(described).sort(), listed.filter((name) => name in headers), `${id} ${statusCode}`)
    for (const [name, header] of Object.entries(described)) {
      if (name === 'etag') t.match(examplesOf(header), [/^"(\d+-\d+|[\w-]{22})"$/], 'each version has another one')
      else t.strictSame(examplesOf(header).map(String), [headers[name]], `${id} ${statusCode} ${name}`)
    }
    for (const { schema } of Object.values(content)) assertMatches(t, schema, body, `${id} ${statusCode}`)
  }

  return { fastify, routes, document, operations, components, examplesOf, assertMatches, assertDescribed }
}

/** Every part of an operation that has a schema, with its place. */
export function partsOf ({ operationId, parameters = [], requestBody, responses }: Operation) {
  const bodies = Object.entries({ ...responses, ...requestBody && { request: requestBody } }).flatMap(
    ([name, { content = {} }]) => Object.values(content).map((media) => [`${operationId} ${name}`, media] as const)
  )
  const headers = Object.entries(responses).flatMap(
    ([status, { headers = {} }]) =>
      Object.entries(headers).map(([name, header]) => [`${operationId} ${status} ${name}`, header] as const)
  )
  return {
    bodies,
    named: [...parameters.map((parameter) => [`${operationId} ${parameter.name}`, parameter] as const), ...headers]
  }
}
