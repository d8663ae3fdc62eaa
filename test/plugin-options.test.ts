import helmet from '@fastify/helmet'
import fastifySwagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import t from './run/tap.js'
import plugin, { type PluginOptions } from '../src/app.js'
import { textOf } from './docs/markdown.js'
import { baseEnv, createDatabase } from './helper.js'

const env = { ...baseEnv, DATABASE_URL: await createDatabase(t) }

/** A server with the plugin, and the routes that the plugin registered. */
async function host (
  t: Test,
  options: PluginOptions,
  before: (fastify: FastifyInstance) => Promise<void> = async () => {}
) {
  const fastify = Fastify()
  t.teardown(async () => await fastify.close())
  await before(fastify)
  const routes: string[] = []
  fastify.addHook(
    'onRoute',
    ({ method, url }) => { if (String(method) !== 'HEAD') routes.push(`${String(method)} ${url}`) }
  )
  await fastify.register(plugin, { env, ...options })
  const as = (tenantId: string) => ({ authorization: `Bearer ${fastify.auth.mint({ tenantId }, 60)}` })
  const get = async (url: string) => await fastify.inject({ url, headers: as('acme') })
  return { fastify, routes, as, get }
}

const isDocs = (route: string) => /^GET \S*\/docs(\/\*)?$/.test(route)
const isHealth = (route: string) => /^GET \S*\/health\/(live|ready)$/.test(route)

await t.test('without options the routes have their usual paths', async (t) => {
  const { routes, get } = await host(t, {})
  t.strictSame([routes.length, routes.filter(isDocs).length, routes.filter(isHealth).length], [37, 2, 2])
  t.strictSame(
    routes.filter((route) => !isDocs(route) && !isHealth(route) && !/^[A-Z]+ \/api\/v1\/tenant\//.test(route)),
    []
  )
  t.equal((await get('/health/live')).statusCode, 200)
})

await t.test('the guide lists the decorators of a host server', async (t) => {
  const own = new Set(Object.keys(Fastify()))
  const { fastify } = await host(t, {})
  const added = Object.keys(fastify).filter((name) => !own.has(name))
  const [, listed = ''] = /It also decorates ([^;]+);/.exec(textOf('docs/TENANT_CONFIG_GUIDE.md')) ?? []
  const names = [...listed.matchAll(/`(\w+)`/g)].map(([, name]) => name)
  t.strictSame(names.toSorted(), added.filter((name) => name !== 'configLoader').toSorted())
})

for (const [given, prefix] of [['/whatsapp', '/whatsapp'], ['/a/b/', '/a/b'], ['plain', '/plain']] as const) {
  await t.test(`the prefix ${given} applies to every route, location and path of the document`, async (t) => {
    const { fastify, routes, as, get } = await host(t, { prefix: given })
    const bare = await host(t, {})
    t.strictSame(routes, bare.routes.map((route) => route.replace(' ', ` ${prefix}`)))
    for (const url of ['/docs', '/docs/json', '/health/live', '/api/v1/tenant/config']) {
      t.match((await get(url)).json(), { statusCode: 404, error: 'Not Found' }, url)
    }

    const config = `${prefix}/api/v1/tenant/config`
    const created = await fastify.inject({ method: 'POST', url: config, headers: as(given), payload: { waba_id: '1' } })
    t.strictSame([created.statusCode, created.headers.location], [201, config])
    t.equal((await fastify.inject({ url: String(created.headers.location), headers: as(given) })).statusCode, 200)
    t.match((await get(`${config}/nowhere`)).json(), { status: 404, code: 'ROUTE_NOT_FOUND' })
    t.equal((await fastify.inject(`${config}/nowhere`)).statusCode, 401, 'the guard covers unknown routes')
    t.strictSame((await get(`${prefix}/health/ready`)).json(), { status: 'ok' })

    t.match((await get(`${prefix}/docs`)).body, `${prefix}/docs/static/swagger-ui.css`)
    t.equal((await get(`${prefix}/docs/static/swagger-ui.css`)).statusCode, 200)
    t.equal((await get(`${prefix}/docs/static/swagger-initializer.js`)).statusCode, 200)
    const { paths, servers } = (await get(`${prefix}/docs/json`)).json()
    t.strictSame(servers, [{ url: '/' }])
    t.strictSame(
      Object.keys(paths),
      Object.keys((await bare.get('/docs/json')).json().paths).map((path) => prefix + path)
    )
    t.strictSame(paths[config].post.responses[201].headers.location.schema.examples, [config])
  })
}

await t.test('docs: false and health: false remove these routes, and no others', async (t) => {
  const { routes } = await host(t, {})
  t.strictSame((await host(t, { docs: false })).routes, routes.filter((route) => !isDocs(route)))
  t.strictSame((await host(t, { health: false })).routes, routes.filter((route) => !isHealth(route)))
  const bare = await host(t, { docs: false, health: false })
  t.strictSame(bare.routes, routes.filter((route) => !isDocs(route) && !isHealth(route)))
  for (const url of ['/docs', '/docs/json', '/health/live', '/health/ready']) {
    t.equal((await bare.get(url)).statusCode, 404, url)
  }
  t.equal((await host(t, { env: { ...env, API_DOCS: 'false' }, docs: true })).routes.filter(isDocs).length, 0)
})

await t.test('a host server keeps its own docs, health checks and helmet', async (t) => {
  const theirs = async (fastify: FastifyInstance) => {
    await fastify.register(helmet)
    await fastify.register(fastifySwagger, { openapi: { openapi: '3.1.0', info: { title: 'theirs', version: '1' } } })
    await fastify.register(swaggerUi, { routePrefix: '/docs' })
    fastify.get('/health', async () => 'theirs')
    fastify.get('/health/live', async () => 'theirs')
    fastify.get('/theirs', { schema: { summary: 'theirs' } }, async () => 'theirs')
  }
  for (const options of [
    { prefix: '/whatsapp' },
    { docs: false, health: false },
    { prefix: '/whatsapp', docs: false, health: false }
  ]) {
    const { get } = await host(t, options, theirs)
    const prefix = options.prefix ?? ''
    for (const url of ['/health', '/health/live']) t.equal((await get(url)).body, 'theirs', url)
    const { info, paths } = (await get('/docs/json')).json()
    t.equal(info.title, 'theirs')
    t.strictSame(Object.keys(paths).sort(), ['/health', '/health/live', '/theirs'])
    t.match((await get('/docs')).body, 'swagger-ui')
    t.equal((await get(`${prefix}/api/v1/tenant/config`)).json().code, 'CONFIG_NOT_FOUND')
    if (options.docs === false) continue
    const ours = (await get(`${prefix}/docs/json`)).json()
    t.equal(ours.info.title, 'whatsapp-tenant-config')
    t.notOk(ours.paths['/theirs'])
    t.match((await get(`${prefix}/docs`)).headers, { 'x-frame-options': 'DENY' })
  }
})
