import Fastify from 'fastify'
import t from 'tap'
import whatsappTenantConfig from '../../src/app.js'
import * as errors from '../../src/errors.js'
import { baseEnv, createDatabase } from '../helper.js'
import { base, client, config, configs, onboard } from '../routes/client.js'

interface Operation {
  operationId: string
  summary: string
  tags: string[]
  security: object[]
  parameters?: Array<{ name: string, in: string, required?: boolean }>
  requestBody?: { required: boolean, content: Record<string, { example: unknown }> }
  responses: Record<string, { description: string, content?: Record<string, { examples: Record<string, { value: Record<string, unknown> }> }> }>
}

interface Document {
  openapi: string
  paths: Record<string, Record<string, Operation>>
  components: { securitySchemes: object, schemas: Record<string, { required: string[], properties: object, examples?: object[] }> }
}

const routes: string[] = []
const fastify = Fastify()
t.teardown(() => fastify.close())
fastify.addHook('onRoute', ({ method, url }) => { routes.push(...[method].flat().map((name) => `${name} ${url}`)) })
await fastify.register(whatsappTenantConfig, { env: { ...baseEnv, DATABASE_URL: await createDatabase(t) } })
const document = (await fastify.inject('/docs/json')).json<Document>()
const operations = Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })))

await t.test('every route is described, and nothing else', async (t) => {
  const described = operations.map(({ method, path }) => `${method} ${path}`)
  const registered = routes.filter((route) => !/^HEAD |^OPTIONS |^\w+ \/docs/.test(route)).map((route) => route.replace(/:(\w+)/g, '{$1}'))
  t.equal(document.openapi, '3.1.0')
  t.strictSame(described.sort(), registered.sort())
  t.strictSame(described.length, 14)
})

await t.test('each with an id, a summary, a group, and its guard', async (t) => {
  t.equal(new Set(operations.map(({ operation }) => operation.operationId)).size, operations.length)
  t.match(document.components.securitySchemes, { bearer: { type: 'http', scheme: 'bearer' } })
  for (const { method, path, operation: { operationId, summary, tags, security, responses } } of operations) {
    t.match(operationId, /^[a-z][A-Za-z]+$/)
    t.ok(summary.length > 5 && tags.length === 1, operationId)
    const guarded = path.startsWith(base)
    t.strictSame(security, guarded ? [{ bearer: [] }] : [], operationId)
    const url = path.replace('{id}', 'x')
    t.equal((await fastify.inject(Object.assign({ url }, { method }))).statusCode, guarded ? 401 : 200)
    t.equal('401' in responses && '403' in responses, guarded)
  }
})

await t.test('every error has an example as it is answered', async (t) => {
  const known = new Map<string, object>(Object.values(errors).map((ErrorClass) => new ErrorClass()).map(({ code, message, statusCode }) => [code, { detail: message, status: statusCode }]))
  const seen = new Set<string>()
  for (const { operation: { operationId, responses } } of operations) {
    for (const [status, { description, content = {} }] of Object.entries(responses).filter(([status]) => Number(status) >= 400)) {
      t.strictSame(Object.keys(content), ['application/problem+json'])
      for (const [code, { value }] of Object.entries(content['application/problem+json']?.examples ?? {})) {
        seen.add(code)
        t.match(value, { code, status: Number(status), type: 'about:blank', title: String, request_id: String, ...known.get(code) }, `${operationId} ${code}`)
        t.match(description, code)
      }
    }
    t.ok('400' in responses && '500' in responses, operationId)
  }
  // The two that no route answers: an unknown one, and what the loader alone throws.
  t.strictSame([...known.keys()].filter((code) => !seen.has(code)).sort(), ['ROUTE_NOT_FOUND', 'TENANT_INACTIVE'])
})

await t.test('examples are what the service takes and gives', async (t) => {
  const { as, admin, call } = await client(t)
  const example = (path: string, method: string) => document.paths[path]?.[method]?.requestBody?.content['application/json']?.example
  const answers = {
    MaskedConfig: await call(as('acme', 'user-1'), 'POST', config, example(config, 'post')),
    FullConfig: await call(as('acme'), 'GET', `${config}/full`),
    ConfigPage: await call(admin, 'GET', `${configs}/all`),
    Stats: await call(admin, 'GET', `${configs}/stats`),
    Problem: await call(admin, 'DELETE', `${configs}/delete-all?x=1`)
  }
  t.match(answers, { MaskedConfig: { is: '201' }, FullConfig: { is: '200' }, Stats: { is: '200' }, ConfigPage: { is: '200' }, Problem: { is: /^400/ } })
  for (const [name, { body }] of Object.entries(answers)) {
    const { properties, required, examples = [] } = document.components.schemas[name] ?? { required: [], properties: {} }
    t.strictSame(required.filter((field) => !(field in body)), [], name)
    t.strictSame(Object.keys(body).filter((field) => !(field in properties)), [], name)
    for (const shown of examples) t.strictSame(Object.keys(shown), Object.keys(body), name)
  }
  const secrets = ({ access_token, fb_app_secret, verify_token, refresh_token }: Record<string, unknown>) => ({ access_token, fb_app_secret, verify_token, refresh_token })
  for (const name of ['MaskedConfig', 'FullConfig'] as const) {
    const [shown = {}] = document.components.schemas[name]?.examples ?? []
    t.strictSame(secrets({ ...shown }), secrets(answers[name].body), name)
  }
  t.equal((await call(as('acme'), 'PUT', config, example(config, 'put'))).is, '200')
  t.equal((await call(as('other'), 'POST', onboard, example(onboard, 'post'))).is, '503 META_APP_NOT_CONFIGURED')
})

await t.test('what need not be sent is not required', async (t) => {
  for (const { operation: { operationId, parameters = [], requestBody } } of operations) {
    t.strictSame(parameters.filter(({ required }) => required).map(({ name }) => name), operationId === 'deleteTenantConfig' ? ['id'] : [], operationId)
    t.equal(requestBody !== undefined, ['createConfig', 'updateConfig', 'onboardWhatsappClient'].includes(operationId), operationId)
  }
})

await t.test('the pages to read it', async (t) => {
  const page = await fastify.inject('/docs')
  const home = page.statusCode === 302 ? await fastify.inject(String(page.headers.location)) : page
  t.equal(home.statusCode, 200)
  t.match(home.headers['content-type'], 'text/html')
  t.match(home.body, 'swagger-ui')
  for (const asset of ['swagger-ui.css', 'swagger-ui-bundle.js', 'swagger-initializer.js']) {
    t.match(home.body, asset)
    t.equal((await fastify.inject(`/docs/static/${asset}`)).statusCode, 200, asset)
  }
  t.equal((await fastify.inject('/docs/yaml')).statusCode, 200)
})
