import Fastify from 'fastify'
import t from '../../run/tap.js'
import whatsappTenantConfig from '../../../src/app.js'
import { baseEnv, buildTestApp } from '../../helper.js'
import { base, config, full } from '../../routes/client.js'

const PAGE = 'https://app.example.com'
const LOCAL = 'http://localhost:3000'
const STRANGERS = ['https://evil.example', `${PAGE}.evil.example`, `${PAGE}:8443`, 'http://app.example.com', 'null']
const EXPOSED = 'etag, idempotent-replayed, location, retry-after, www-authenticate, ' +
  'ratelimit-limit, ratelimit-remaining, ratelimit-reset'

const { app, as, admin, databaseUrl } = await buildTestApp(t, {
  CORS_ORIGINS: `${PAGE}, ${LOCAL}`,
  RATE_LIMIT_TENANT_PER_MINUTE: 1
})
const preflight = { 'access-control-request-method': 'PUT', 'access-control-request-headers': 'authorization' }

/** The headers that a browser acts on. */
function corsHeaders (headers: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => /^(access-control-.*|vary)$/.test(name)))
}

for (const [name, { method = 'GET', url, headers = {}, is }] of Object.entries({
  'a success': { method: 'POST', url: config, headers: as('acme'), is: 201 },
  'a reached limit': { url: config, headers: as('acme'), is: 429 },
  'a missing token': { url: config, is: 401 },
  'a missing role': { url: `${base}/admin/configs/stats`, headers: as('globex'), is: 403 },
  'a missing configuration': { url: config, headers: as('initech'), is: 404 },
  'an unknown route': { url: `${base}/nothing`, headers: as('hooli'), is: 404 },
  'an unknown admin route': { url: `${base}/admin/nothing`, headers: admin, is: 404 },
  'an unusable query': { url: `${config}?a=b`, headers: as('umbrella'), is: 400 }
} satisfies Record<string, { method?: 'POST', url: string, headers?: Record<string, string>, is: number }>)) {
  await t.test(`pages of the allowed origins alone may read ${name}`, async (t) => {
    const ask = async (origin: string) => await app.inject({
      method, url, headers: { origin, ...headers }, ...(method === 'POST' ? { payload: full } : {})
    })
    const answer = await ask(PAGE)
    t.equal(answer.statusCode, is)
    t.same(corsHeaders(answer.headers), {
      'access-control-allow-origin': PAGE, 'access-control-expose-headers': EXPOSED, vary: 'Origin'
    })
    for (const stranger of STRANGERS) {
      t.same(corsHeaders((await ask(stranger)).headers), { vary: 'Origin' }, stranger)
    }
  })
}

await t.test('a preflight needs no token', async (t) => {
  for (const url of [config, `${base}/admin/configs/stats`, `${base}/onboard/whatsapp-client/resume`]) {
    for (const origin of [PAGE, LOCAL]) {
      const answer = await app.inject({ method: 'OPTIONS', url, headers: { origin, ...preflight } })
      t.equal(answer.statusCode, 204)
      t.same(corsHeaders(answer.headers), {
        'access-control-allow-origin': origin,
        'access-control-allow-methods': 'GET, HEAD, POST, PUT, DELETE',
        'access-control-allow-headers': 'authorization, content-type, idempotency-key, if-match, if-none-match, ' +
          'traceparent, tracestate',
        'access-control-expose-headers': EXPOSED,
        'access-control-max-age': '7200',
        vary: 'Origin'
      })
    }
  }
})

await t.test('a preflight of another origin is refused without a word on what is allowed', async (t) => {
  for (const origin of STRANGERS) {
    const answer = await app.inject({ method: 'OPTIONS', url: config, headers: { origin, ...preflight } })
    t.equal(answer.statusCode, 404)
    t.match(answer.json(), { code: 'ROUTE_NOT_FOUND' })
    t.same(corsHeaders(answer.headers), { vary: 'Origin' })
  }
})

await t.test('an answer without an origin in the request varies by it all the same', async (t) => {
  t.same(corsHeaders((await app.inject({ url: config })).headers), { vary: 'Origin' })
})

await t.test('probes and docs are for no page, and the document shows no preflight', async (t) => {
  for (const url of ['/health/live', '/health/ready', '/docs/json']) {
    const { statusCode, headers } = await app.inject({ url, headers: { origin: PAGE } })
    t.equal(statusCode, 200)
    t.same(corsHeaders(headers), {})
  }
  t.notMatch((await app.inject({ url: '/docs/json' })).body, '"options":')
})

await t.test('without the setting no origin is allowed, and OPTIONS is an unknown route', async (t) => {
  const { app, as } = await buildTestApp(t, { DATABASE_URL: databaseUrl })
  const headers = { origin: PAGE, ...as('acme') }
  t.same(corsHeaders((await app.inject({ url: config, headers })).headers), {})
  const answer = await app.inject({ method: 'OPTIONS', url: config, headers: { ...headers, ...preflight } })
  t.equal(answer.statusCode, 404)
  t.same(corsHeaders(answer.headers), {})
})

await t.test('the routes of a host server keep their own answers', async (t) => {
  const host = Fastify()
  t.teardown(async () => await host.close())
  await host.register(whatsappTenantConfig, { env: { ...baseEnv, CORS_ORIGINS: PAGE, DATABASE_URL: databaseUrl } })
  for (const url of ['/', '/api/v1/tenants', '/api/v1/tenantry']) host.get(url, async () => 'ours')
  host.options('*', async () => 'preflight of the host')
  for (const url of ['/', '/api/v1/tenants', '/api/v1/tenantry']) {
    t.same(corsHeaders((await host.inject({ url, headers: { origin: PAGE } })).headers), {})
    const answer = await host.inject({ method: 'OPTIONS', url, headers: { origin: PAGE, ...preflight } })
    t.equal(answer.body, 'preflight of the host')
    t.same(corsHeaders(answer.headers), {})
  }
  const { statusCode } = await host.inject({ method: 'OPTIONS', url: config, headers: { origin: PAGE, ...preflight } })
  t.equal(statusCode, 204)
})
