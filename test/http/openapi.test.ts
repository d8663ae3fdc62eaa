import type { Test } from 'tap'
import t from '../run/tap.js'
import { onboardingStatuses, stepNames, stepStatuses, tokenStatuses } from '../../src/schemas/statuses.js'
import type { Schema } from './openapi-document.js'
import { openapiService, partsOf } from './openapi-service.js'
import { base, config } from '../routes/client.js'

const { fastify, routes, document, operations, components, examplesOf, assertDescribed } = await openapiService(t)

await t.test('every route is described, and the document describes no others', async (t) => {
  const described = operations.map(({ method, path }) => `${method} ${path}`)
  const registered = routes.filter((route) => !/^HEAD |^OPTIONS |^\w+ \/docs/.test(route)).map(
    (route) => route.replace(/:(\w+)/g, '{$1}')
  )
  t.equal(document.openapi, '3.1.0')
  t.strictSame(described.sort(), registered.sort())
  t.strictSame(described.length, 35)
})

await t.test('every operation has an id, a summary, one tag and the guard of its route', async (t) => {
  t.equal(new Set(operations.map(({ operation }) => operation.operationId)).size, operations.length)
  const http = { type: 'http', scheme: 'bearer' }
  t.match(document.components.securitySchemes, { bearer: http, serviceKey: http })
  for (const { method, path, operation: { operationId, summary, tags, security, responses } } of operations) {
    t.match(operationId, /^[a-z][A-Za-z]+$/)
    t.ok(summary.length > 5 && tags.length === 1, operationId)
    const webhook = tags.includes('webhooks')
    const guarded = path.startsWith(base) && !webhook
    t.strictSame(security, guarded ? credentialsOf(operationId) : [], operationId)
    const url = path.replace(/\{\w+\}/, 'x')
    const answer = await fastify.inject(Object.assign({ url }, { method }))
    t.equal(answer.statusCode, guarded ? 401 : webhook ? method === 'POST' ? 401 : 403 : 200)
    assertDescribed(t, operationId, { ...answer, body: answer.json() })
    if (!webhook) t.equal('401' in responses && '403' in responses, guarded)
  }
})

/** What the guard of an operation admits. */
function credentialsOf (operationId: string): object[] {
  if (operationId === 'resolveConfig') return [{ serviceKey: ['credentials:read'] }]
  const isOpenToKeys = ['listConfigs', 'getStats', 'getTenantEffectiveConfig'].includes(operationId)
  return [{ bearer: [] }, ...isOpenToKeys ? [{ serviceKey: ['configs:read'] }] : []]
}

await t.test('everything that has a schema has an example and a description', async (t) => {
  for (const { operation } of operations) {
    const { bodies, named } = partsOf(operation)
    for (const [where, part] of [...bodies, ...named]) t.not(examplesOf(part).length, 0, `${where} has an example`)
    for (const [where, { description }] of named) t.ok(description, `${where} has a description`)
    // Swagger UI would fill in an example and send it, even a confirmation.
    for (const parameter of operation.parameters ?? []) {
      t.notOk('example' in parameter || 'examples' in parameter, parameter.name)
    }
    for (const [status, { description, headers = {}, content = {} }] of Object.entries(operation.responses)) {
      const where = `${operation.operationId} ${status}`
      t.notMatch(description, 'Default Response', where)
      // No URL shows an onboarding or a service key that was created.
      t.equal(
        'location' in headers,
        status === '201' && operation.operationId === 'createConfig',
        `${where} location`
      )
      const isChallenged = status === '401' || (status === '403' && /\bSCOPE_MISSING\b/.test(description))
      t.equal('www-authenticate' in headers, isChallenged, `${where} www-authenticate`)
      const isConfig = Object.values(content)
        .some(({ schema }) => /\/((Masked|Full)Config|Resolved)$/.test(schema.$ref ?? ''))
      t.equal('etag' in headers, isConfig || status === '304', `${where} etag`)
      const isRetried = status === '503' || status === '429' || description.includes('IDEMPOTENCY_IN_PROGRESS')
      t.equal('retry-after' in headers, isRetried, `${where} retry-after`)
    }
    const { operationId, parameters = [], responses } = operation
    t.strictSame(
      parameters.map(({ name }) => name).filter((name) => name.startsWith('if-')),
      '304' in responses ? ['if-none-match'] : '412' in responses ? ['if-match'] : [],
      operationId
    )
    if (operation.requestBody !== undefined) t.ok(operation.requestBody.description, operation.operationId)
    for (const [where, { schema }] of bodies) assertFieldsDescribed(t, schema, where)
  }
  for (const [name, schema] of Object.entries(components.schemas)) assertFieldsDescribed(t, schema, name)
})

function assertFieldsDescribed (t: Test, { properties = {}, items }: Schema, where: string) {
  for (const [name, field] of Object.entries(properties)) {
    t.ok(field.description, `${where} ${name}`)
    assertFieldsDescribed(t, field, `${where} ${name}`)
  }
  if (items !== undefined) assertFieldsDescribed(t, items, where)
}

await t.test('patterns need no flag, \\p or look-around, and match only the values that the service accepts', (t) => {
  const patterns = new Set(
    JSON.stringify(document).match(/(?<="pattern":)"(\\.|[^"\\])*"/g)?.map((pattern): string => JSON.parse(pattern))
  )
  t.equal(patterns.size, 9)
  const samples = [
    'a', '\u00e9', '0', '123456', 'a b', ' a', 'a ', '\u00a0a', 'a\n', '\n', '\u0000', '\u0085', 'p{Cc}', '', '.'
  ]
  for (const pattern of patterns) {
    t.notMatch(pattern, /\\[pPuk]|\(\?/)
    const [plain, unicode] = [new RegExp(pattern), new RegExp(pattern, 'u')]
    for (const sample of samples) t.equal(plain.test(sample), unicode.test(sample), JSON.stringify([pattern, sample]))
  }
  const { properties = {} } = document.paths[config]?.['post']?.requestBody?.content['application/json']?.schema ?? {}
  const accepted = (field: string) =>
    samples.filter((sample) => new RegExp(properties[field]?.pattern ?? '.').test(sample))
  t.strictSame(accepted('verify_token'), ['a', '\u00e9', '0', '123456', 'a b', 'p{Cc}', '.'])
  t.strictSame(accepted('access_token'), ['a', '0', '123456', 'p{Cc}', '.'])
  t.end()
})

await t.test('the codes of a problem, the statuses and the step names are enums', (t) => {
  for (const { operation: { operationId, responses } } of operations) {
    for (const [status, { content = {} }] of Object.entries(responses).filter(([status]) => Number(status) >= 400)) {
      const { schema: { allOf = [] } = {}, examples = {} } = content['application/problem+json'] ?? {}
      t.match(
        allOf,
        [
          { $ref: '#/components/schemas/Problem' },
          { properties: { code: { type: 'string', enum: Object.keys(examples) } } }
        ],
        `${operationId} ${status}`
      )
    }
  }
  const { OnboardingRecord: { properties: { status, steps } = {} } = {}, TokenHealth } = components.schemas
  const { name, status: stepStatus } = steps?.items?.properties ?? {}
  t.strictSame(
    [status, name, stepStatus, TokenHealth?.properties?.['token_status']].map((schema) => schema?.enum),
    [onboardingStatuses, stepNames, stepStatuses, tokenStatuses]
  )
  t.end()
})

await t.test('only mandatory parameters and bodies are required', async (t) => {
  for (const { operation: { operationId, parameters = [], requestBody } } of operations) {
    t.strictSame(
      parameters.filter(({ required }) => required).map(({ name }) => name),
      {
        deleteTenantConfig: ['id'],
        deleteServiceKey: ['id'],
        getTenantEffectiveConfig: ['id'],
        getVersion: ['n'],
        restoreVersion: ['n'],
        redeliverEvent: ['id'],
        verifyAccountUpdate: ['hub.challenge']
      }[operationId] ?? [],
      operationId
    )
    t.equal(
      requestBody?.required ?? false,
      [
        'createConfig', 'updateConfig', 'onboardWhatsappClient', 'receiveAccountUpdate', 'restoreConfigs',
        'createServiceKey'
      ].includes(operationId),
      operationId
    )
    t.equal(
      requestBody !== undefined,
      ['verifyConfig', 'startOnboarding', 'resumeOnboarding'].includes(operationId) || requestBody?.required === true,
      operationId
    )
  }
})
