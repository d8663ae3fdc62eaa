import { Ajv2020 } from 'ajv/dist/2020.js'
import Fastify from 'fastify'
import type { Test } from 'tap'
import t from '../run/tap.js'
import whatsappTenantConfig from '../../src/app.js'
import * as errors from '../../src/errors.js'
import { onboardingStatuses, stepNames, stepStatuses, tokenStatuses } from '../../src/schemas/statuses.js'
import {
  examplesOf as examplesIn, operationsOf, type Described, type Document, type Operation, type Schema
} from './openapi-document.js'
import { baseEnv, buildTestApp, createDatabase } from '../helper.js'
import { base, client, config, configs, onboard } from '../routes/client.js'

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

/** Asserts that a value matches a schema of the document. */
function fits (t: Test, schema: Schema, value: unknown, where: string) {
  const check = ajv.compile({ ...schema, components })
  t.ok(check(value), where, { found: check.errors })
}

/** Every part of an operation that has a schema, with its place. */
function partsOf ({ operationId, parameters = [], requestBody, responses }: Operation) {
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

const examplesOf = (part: Described) => examplesIn(part, components)

/**
 * Asserts that an answer has the body and the headers that are described for its status. Of the headers listed below it
 * has no others.
 */
function isDescribed (
  t: Test,
  id: string,
  { statusCode, headers, body }: { statusCode: number, headers: Record<string, unknown>, body: unknown }
) {
  const {
    headers: described = {},
    content = {}
  } = operations.find(({ operation }) => operation.operationId === id)?.operation.responses[statusCode] ??
    {}
  const sent = ['cache-control', 'location', 'retry-after', 'www-authenticate'].filter((name) => name in headers)
  t.strictSame(Object.keys(described).sort(), sent, `${id} ${statusCode}`)
  for (const [name, header] of Object.entries(described)) {
    t.strictSame(examplesOf(header).map(String), [headers[name]], `${id} ${statusCode} ${name}`)
  }
  for (const { schema } of Object.values(content)) fits(t, schema, body, `${id} ${statusCode}`)
}

await t.test('every route is described, and the document describes no others', async (t) => {
  const described = operations.map(({ method, path }) => `${method} ${path}`)
  const registered = routes.filter((route) => !/^HEAD |^OPTIONS |^\w+ \/docs/.test(route)).map(
    (route) => route.replace(/:(\w+)/g, '{$1}')
  )
  t.equal(document.openapi, '3.1.0')
  t.strictSame(described.sort(), registered.sort())
  t.strictSame(described.length, 23)
})

await t.test('every operation has an id, a summary, one tag and the guard of its route', async (t) => {
  t.equal(new Set(operations.map(({ operation }) => operation.operationId)).size, operations.length)
  t.match(document.components.securitySchemes, { bearer: { type: 'http', scheme: 'bearer' } })
  for (const { method, path, operation: { operationId, summary, tags, security, responses } } of operations) {
    t.match(operationId, /^[a-z][A-Za-z]+$/)
    t.ok(summary.length > 5 && tags.length === 1, operationId)
    const webhook = tags.includes('webhooks')
    const guarded = path.startsWith(base) && !webhook
    t.strictSame(security, guarded ? [{ bearer: [] }] : [], operationId)
    const url = path.replace('{id}', 'x')
    const answer = await fastify.inject(Object.assign({ url }, { method }))
    t.equal(answer.statusCode, guarded ? 401 : webhook ? method === 'POST' ? 401 : 403 : 200)
    isDescribed(t, operationId, { ...answer, body: answer.json() })
    if (!webhook) t.equal('401' in responses && '403' in responses, guarded)
  }
})

await t.test('everything that has a schema has an example and a description', async (t) => {
  for (const { operation } of operations) {
    const { bodies, named } = partsOf(operation)
    for (const [where, part] of [...bodies, ...named]) t.not(examplesOf(part).length, 0, `${where} has an example`)
    for (const [where, { description }] of named) t.ok(description, `${where} has a description`)
    // Swagger UI would fill in an example and send it, even a confirmation.
    for (const parameter of operation.parameters ?? []) {
      t.notOk('example' in parameter || 'examples' in parameter, parameter.name)
    }
    for (const [status, { description, headers = {} }] of Object.entries(operation.responses)) {
      const where = `${operation.operationId} ${status}`
      t.notMatch(description, 'Default Response', where)
      // The answer of the onboarding has no location.
      t.equal(
        'location' in headers,
        status === '201' && operation.operationId !== 'onboardWhatsappClient',
        `${where} location`
      )
      t.equal('www-authenticate' in headers, status === '401', `${where} www-authenticate`)
      t.equal('retry-after' in headers, status === '503' || status === '429', `${where} retry-after`)
    }
    if (operation.requestBody !== undefined) t.ok(operation.requestBody.description, operation.operationId)
    for (const [where, { schema }] of bodies) fieldsAreDescribed(t, schema, where)
  }
  for (const [name, schema] of Object.entries(components.schemas)) fieldsAreDescribed(t, schema, name)
})

function fieldsAreDescribed (t: Test, { properties = {}, items }: Schema, where: string) {
  for (const [name, field] of Object.entries(properties)) {
    t.ok(field.description, `${where} ${name}`)
    fieldsAreDescribed(t, field, `${where} ${name}`)
  }
  if (items !== undefined) fieldsAreDescribed(t, items, where)
}

await t.test('every example matches its schema', async (t) => {
  const seen = operations.flatMap(({ operation }) => Object.values(partsOf(operation)).flat())
  for (const [where, part] of seen) {
    for (const example of examplesOf(part)) fits(t, part.schema, example, where)
  }
})

await t.test('patterns need no flag, \\p or look-around, and match only the values that the service accepts', (t) => {
  const patterns = new Set(
    JSON.stringify(document).match(/(?<="pattern":)"(\\.|[^"\\])*"/g)?.map((pattern): string => JSON.parse(pattern))
  )
  t.equal(patterns.size, 4)
  const samples = [
    'a', '\u00e9', '0', '123456', 'a b', ' a', 'a ', '\u00a0a', 'a\n', '\n', '\u0000', '\u0085', 'p{Cc}', '', '.'
  ]
  for (const pattern of patterns) {
    t.notMatch(pattern, /\\[pPuk]|\(\?/)
    const [plain, unicode] = [new RegExp(pattern), new RegExp(pattern, 'u')]
    for (const sample of samples) t.equal(plain.test(sample), unicode.test(sample), JSON.stringify([pattern, sample]))
  }
  const { properties = {} } = document.paths[config]?.['post']?.requestBody?.content['application/json']?.schema ?? {}
  const taken = (field: string) =>
    samples.filter((sample) => new RegExp(properties[field]?.pattern ?? '.').test(sample))
  t.strictSame(taken('verify_token'), ['a', '\u00e9', '0', '123456', 'a b', 'p{Cc}', '.'])
  t.strictSame(taken('access_token'), ['a', '0', '123456', 'p{Cc}', '.'])
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

await t.test('every error has an example that equals its answer', async (t) => {
  const known = new Map<string, object>(
    errors.errorClasses.map((ErrorClass) => new ErrorClass()).map(({ code, message, statusCode }) => [
      code, { detail: message, status: statusCode }
    ])
  )
  const seen = new Set<string>()
  for (const { operation: { operationId, responses } } of operations) {
    for (const [status, { description, content = {} }] of Object.entries(responses).filter(
      ([status]) => Number(status) >= 400
    )) {
      t.strictSame(Object.keys(content), ['application/problem+json'])
      for (const [code, { value }] of Object.entries(content['application/problem+json']?.examples ?? {})) {
        seen.add(code)
        t.match(
          value,
          { code, status: Number(status), type: 'about:blank', title: String, request_id: String, ...known.get(code) },
          `${operationId} ${code}`
        )
        t.match(description, code)
      }
    }
    t.ok('400' in responses && '500' in responses, operationId)
  }
  // No route answers these: an unknown route, an invalid request, and errors of the loader.
  const unseen = [
    'EXPECTATION_FAILED', 'HEADERS_TOO_LARGE', 'MALFORMED_REQUEST', 'REQUEST_TIMEOUT', 'ROUTE_NOT_FOUND',
    'TENANT_INACTIVE', 'TOKEN_DEAD'
  ]
  t.strictSame([...known.keys()].filter((code) => !seen.has(code)).sort(), unseen)
})

await t.test('the examples are accepted and returned by the service', async (t) => {
  const { as, admin, call } = await client(t)
  const example = (path: string, method: string) =>
    document.paths[path]?.[method]?.requestBody?.content['application/json']?.example
  const refused = await call(as('other'), 'POST', onboard, example(onboard, 'post'))
  const answers = {
    createConfig: await call(as('acme', 'user-1'), 'POST', config, example(config, 'post')),
    getFullConfig: await call(as('acme'), 'GET', `${config}/full`),
    getEffectiveConfig: await call(as('acme'), 'GET', `${config}/effective`),
    getTenantEffectiveConfig: await call(admin, 'GET', `${configs}/effective/other`),
    listConfigs: await call(admin, 'GET', `${configs}/all`),
    getStats: await call(admin, 'GET', `${configs}/stats`),
    updateConfig: await call(as('acme'), 'PUT', config, example(config, 'put')),
    deleteAllConfigs: await call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:1`),
    deleteConfig: await call(as('acme'), 'DELETE', `${config}?x=1`),
    deleteTenantConfig: await call(admin, 'DELETE', `${configs}/delete-tenant/acme`),
    onboardWhatsappClient: refused
  }
  t.strictSame(Object.values(answers).map(({ is }) => is), [
    '201', '200', '200', '200', '200', '200', '200', '200', '400 VALIDATION_FAILED', '404 CONFIG_NOT_FOUND',
    '503 META_APP_NOT_CONFIGURED'
  ])
  for (const [id, { is, headers, body }] of Object.entries(answers)) {
    isDescribed(t, id, { statusCode: parseInt(is), headers, body })
  }

  const {
    createConfig, getFullConfig, getEffectiveConfig, listConfigs, getStats, deleteAllConfigs, deleteConfig
  } = answers
  for (const [name, { body }] of Object.entries({
    MaskedConfig: createConfig,
    FullConfig: getFullConfig,
    EffectiveConfig: getEffectiveConfig,
    ConfigPage: listConfigs,
    Stats: getStats,
    Deleted: deleteAllConfigs,
    Problem: deleteConfig
  })) {
    const { properties = {}, examples = [] } = components.schemas[name] ?? {}
    t.strictSame(Object.keys(body).filter((field) => !(field in properties)), [], name)
    for (const shown of examples) t.strictSame(Object.keys(shown), Object.keys(body), name)
  }
  const secrets = ({ access_token, fb_app_secret, verify_token, refresh_token }: Record<string, unknown>) =>
    ({ access_token, fb_app_secret, verify_token, refresh_token })
  const shown = (name: string) => components.schemas[name]?.examples?.[0] ?? {}
  t.strictSame(secrets(shown('MaskedConfig')), secrets(createConfig.body))
  t.strictSame(secrets(shown('FullConfig')), secrets(getFullConfig.body))
  t.match(listConfigs.body['configs'], [secrets(shown('ConfigPage').configs?.[0] ?? {})])
})

await t.test('only mandatory parameters and bodies are required', async (t) => {
  for (const { operation: { operationId, parameters = [], requestBody } } of operations) {
    t.strictSame(
      parameters.filter(({ required }) => required).map(({ name }) => name),
      {
        deleteTenantConfig: ['id'],
        getTenantEffectiveConfig: ['id'],
        verifyAccountUpdate: ['hub.challenge']
      }[operationId] ?? [],
      operationId
    )
    t.equal(
      requestBody?.required ?? false,
      ['createConfig', 'updateConfig', 'onboardWhatsappClient', 'receiveAccountUpdate'].includes(operationId),
      operationId
    )
    t.equal(
      requestBody !== undefined,
      ['verifyConfig', 'startOnboarding', 'resumeOnboarding'].includes(operationId) || requestBody?.required === true,
      operationId
    )
  }
})

await t.test('the documentation pages and their assets are served', async (t) => {
  const page = await fastify.inject('/docs')
  t.equal(page.statusCode, 200)
  t.match(page.headers['content-type'], 'text/html')
  const assets = [...page.body.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, path]) => String(path))
  t.equal(assets.length, 7)
  const types = { css: 'text/css', js: 'application/javascript', png: 'image/png' }
  for (const path of assets) {
    const { statusCode, headers, rawPayload } = await fastify.inject(path)
    t.equal(statusCode, 200, path)
    t.match(headers['content-type'], Object.entries(types).find(([extension]) => path.endsWith(extension))?.[1])
    t.ok(rawPayload.length > 100, path)
  }
  // With a trailing slash the page links to its assets by relative URLs.
  t.equal((await fastify.inject('/docs/')).body.replaceAll('"./static/', '"/docs/static/'), page.body)
  t.match((await fastify.inject('/docs/yaml')).body, /^openapi: 3\.1\.0\n/)
  t.match(await fastify.inject('/docs/static/index.html'), { statusCode: 302, headers: { location: '/docs/' } })
  t.equal((await fastify.inject({ method: 'HEAD', url: '/docs/json' })).statusCode, 200)
  for (const path of ['nope.js', '', '../package.json', '%2e%2e/package.json', '/swagger-ui.css']) {
    t.equal((await fastify.inject(`/docs/static/${path}`)).statusCode, 404, path)
  }
})

await t.test('the documentation pages run no foreign script and refuse frames', async (t) => {
  for (const path of [
    '/docs', '/docs/', '/docs/json', '/docs/static/swagger-ui-bundle.js', '/docs/static/index.html'
  ]) {
    const { headers } = await fastify.inject(path)
    const policy = String(headers['content-security-policy']).split(';')
    for (const directive of [
      "default-src 'self'", "script-src 'self'", "script-src-attr 'none'", "object-src 'none'", "base-uri 'self'",
      "frame-ancestors 'none'"
    ]) {
      t.ok(policy.includes(directive), `${path} ${directive}`)
    }
    t.notMatch(headers['content-security-policy'], 'upgrade-insecure-requests', 'there need be no TLS')
    t.match(headers, {
      'x-frame-options': 'DENY',
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer'
    })
    t.notOk('strict-transport-security' in headers)
  }
  t.notOk('content-security-policy' in (await fastify.inject('/health/live')).headers, 'other routes have no page')
})

await t.test('without API_DOCS every path under /docs answers 404', async (t) => {
  const { app } = await buildTestApp(t, { API_DOCS: false })
  for (const path of ['/docs', '/docs/', '/docs/json', '/docs/yaml', '/docs/static/swagger-ui-bundle.js']) {
    t.match((await app.inject(path)).json(), { status: 404, code: 'ROUTE_NOT_FOUND' }, path)
  }
  t.equal((await app.inject('/health/ready')).statusCode, 200)
})
