import rateLimit from '@fastify/rate-limit'
import Fastify from 'fastify'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import whatsappTenantConfig, { type EnvSource } from '../../../src/app.js'
import { clock } from '../../fixtures/clock.js'
import { baseEnv, buildTestApp, createDatabase } from '../../helper.js'
import { base, config, configs, onboard, resolve, serviceKeys } from '../../routes/client.js'

const databaseUrl = await createDatabase(t)
const verify = `${config}/verify`
const GUESS = { authorization: 'Bearer guess' }

/** The service with these limits, behind one proxy. */
async function service (t: Test, limits: EnvSource) {
  const { app, as, admin } = await buildTestApp(t, { DATABASE_URL: databaseUrl, TRUST_PROXY: '1', ...limits })

  /** Sends requests, one after the other; returns how many were answered in each way, in the order of the first. */
  async function send (
    count: number, method: 'GET' | 'POST' | 'DELETE', url: string, headers: object, from = '1.2.3.4'
  ) {
    const answers: Record<string, number> = {}
    for (let i = 0; i < count; i++) {
      const answer = await app.inject({ method, url, headers: { ...headers, 'x-forwarded-for': from } })
      const { code = '' } = answer.body === '' ? {} : answer.json()
      const is = `${answer.statusCode} ${code}`.trim()
      answers[is] = (answers[is] ?? 0) + 1
    }
    return answers
  }
  return { app, as, admin, send }
}

await t.test('a tenant has its requests of a minute, on all routes and from all addresses together', async (t) => {
  const { as, send } = await service(t, { RATE_LIMIT_TENANT_PER_MINUTE: 5 })
  t.same(await send(3, 'GET', config, as('acme')), { '404 CONFIG_NOT_FOUND': 3 })
  t.same(await send(1, 'GET', `${base}/nothing`, as('acme'), '5.6.7.8'), { '404 ROUTE_NOT_FOUND': 1 })
  t.same(await send(2, 'POST', verify, as('acme', 'other'), '2001:db8::1'), {
    '404 CONFIG_NOT_FOUND': 1, '429 RATE_LIMITED': 1
  })
  t.same(await send(1, 'GET', `${base}/nothing`, as('acme')), { '429 RATE_LIMITED': 1 })
  t.same(await send(5, 'GET', config, as('globex')), { '404 CONFIG_NOT_FOUND': 5 })
})

await t.test('a service key has its requests of a minute, on all routes, and an admin has no such limit', async (t) => {
  const { app, admin, send } = await service(t, { RATE_LIMIT_KEY_PER_MINUTE: 3 })
  const keyFor = async () => {
    const payload = { name: 'x', scopes: ['credentials:read', 'configs:read'] }
    const answer = await app.inject({ method: 'POST', url: serviceKeys, headers: admin, payload })
    return { authorization: `Bearer ${String(answer.json()['key'])}` }
  }
  const key = await keyFor()
  t.same(await send(2, 'GET', `${resolve}?tenant_id=x`, key), { 200: 2 })
  t.same(await send(2, 'GET', `${configs}/stats`, key, '5.6.7.8'), { 200: 1, '429 RATE_LIMITED': 1 })
  t.same(await send(1, 'GET', `${resolve}?tenant_id=x`, key), { '429 RATE_LIMITED': 1 })
  t.same(await send(3, 'GET', `${resolve}?tenant_id=x`, await keyFor()), { 200: 3 })
  t.same(await send(5, 'GET', `${configs}/stats`, admin), { 200: 5 })
})

await t.test('the limit ends with its minute', async (t) => {
  const { advance } = clock(t)
  const { app, as, send } = await service(t, { RATE_LIMIT_TENANT_PER_MINUTE: 2 })
  t.same(await send(3, 'GET', config, as('acme')), { '404 CONFIG_NOT_FOUND': 2, '429 RATE_LIMITED': 1 })
  advance(59_000)
  const { headers } = await app.inject({ url: config, headers: as('acme') })
  t.equal(headers['retry-after'], '1')
  advance(1000)
  t.same(await send(1, 'GET', config, as('acme')), { '404 CONFIG_NOT_FOUND': 1 })
})

await t.test('an answer has the state of the limit, and a refusal the time to wait', async (t) => {
  const { advance } = clock(t)
  const { app, as } = await service(t, {
    RATE_LIMIT_ADDRESS_PER_MINUTE: 4, RATE_LIMIT_TENANT_PER_MINUTE: 2, RATE_LIMIT_META_PER_MINUTE: 1
  })
  const ask = async (method: 'GET' | 'POST', url: string, who: object) => {
    const { statusCode, headers } = await app.inject({ method, url, headers: { ...who } })
    return [statusCode, ...['limit', 'remaining', 'reset'].map((name) => headers[`ratelimit-${name}`]),
      headers['retry-after']]
  }
  t.same(await ask('GET', config, as('acme')), [404, '2', '1', '60', undefined], 'of the tenant')
  advance(20_000)
  t.same(await ask('POST', verify, as('acme')), [404, '1', '0', '60', undefined], 'of what calls Meta')
  t.same(await ask('GET', config, as('acme')), [429, '2', '0', '40', '40'])
  t.same(await ask('GET', config, {}), [401, '4', '0', '40', undefined], 'of the address')
  t.same(await ask('GET', config, {}), [429, '4', '0', '40', '40'])
})

for (const [method, url] of [
  ['POST', onboard], ['POST', `${onboard}/resume`], ['POST', verify], ['DELETE', config]
] as const) {
  await t.test(`${method} ${url} counts as a request that calls Meta, the others do not`, async (t) => {
    const { as, send } = await service(t, { RATE_LIMIT_META_PER_MINUTE: 2 })
    for (const path of [config, onboard, `${config}/health`]) t.notOk((await send(5, 'GET', path, as('acme')))['429'])
    await send(1, method, url, as('acme'))
    await send(1, 'POST', verify, as('acme'))
    t.same(await send(1, method, url, as('acme')), { '429 RATE_LIMITED': 1 })
    t.same(await send(1, 'GET', config, as('acme')), { '404 CONFIG_NOT_FOUND': 1 })
    t.same(await send(1, 'POST', verify, as('globex')), { '404 CONFIG_NOT_FOUND': 1 })
  })
}

for (const [name, first, second, together] of [
  ['two IPv4 addresses', '1.2.3.4', '1.2.3.5', false],
  ['two addresses of one IPv6 network', '2001:db8:1:2::1', '2001:DB8:1:2:ffff::9', true],
  ['two IPv6 networks', '2001:db8:1:2::1', '2001:db8:1:3::1', false],
  ['an IPv4 address and its IPv6 form', '1.2.3.4', '::ffff:1.2.3.4', true],
  ['an address and what the client claims before it', '1.2.3.4', '9.9.9.9, 1.2.3.4', true],
  ['what is no address', 'fe80::1%a/b', 'unknown', false]
] as const) {
  await t.test(`${name} count ${together ? 'as one' : 'for themselves'}`, async (t) => {
    const { as, admin, send } = await service(t, { RATE_LIMIT_ADDRESS_PER_MINUTE: 2 })
    t.same(await send(1, 'GET', config, as('acme'), first), { '404 CONFIG_NOT_FOUND': 1 })
    t.same(await send(1, 'GET', `${base}/admin/nothing`, admin, first), { '404 ROUTE_NOT_FOUND': 1 })
    t.same(await send(1, 'GET', config, {}, second), { [together ? '429 RATE_LIMITED' : '401 UNAUTHENTICATED']: 1 })
    t.same(await send(1, 'GET', `${base}/onboard/account-update`, {}, first), { '429 RATE_LIMITED': 1 })
  })
}

await t.test('after 60 failed tokens, further ones of the address get 429 for the rest of the minute', async (t) => {
  const { advance } = clock(t)
  const { app, as, send } = await service(t, { RATE_LIMIT_ADDRESS_PER_MINUTE: 1000 })
  // None of these is a failed token.
  t.same(await send(100, 'GET', config, {}), { '401 UNAUTHENTICATED': 100 })
  t.same(await send(100, 'GET', `${base}/admin/configs/stats`, as('acme')), { '403 FORBIDDEN': 100 })
  t.same(await send(100, 'POST', `${base}/onboard/account-update`, {}), { '401 SIGNATURE_INVALID': 100 })
  t.same(await send(30, 'GET', config, GUESS), { '401 UNAUTHENTICATED': 30 })
  advance(10_000)
  t.same(await send(32, 'GET', `${base}/admin/nothing`, GUESS), { '401 UNAUTHENTICATED': 30, '429 RATE_LIMITED': 2 })
  const { headers, statusCode } = await app.inject({
    url: config, headers: { ...GUESS, 'x-forwarded-for': '1.2.3.4' }
  })
  t.match({ statusCode, ...headers }, {
    statusCode: 429, 'ratelimit-limit': '60', 'ratelimit-remaining': '0', 'ratelimit-reset': '50', 'retry-after': '50'
  })
  t.same(await send(1, 'GET', config, as('acme')), { '404 CONFIG_NOT_FOUND': 1 }, 'a good token works')
  t.same(await send(1, 'GET', config, {}), { '401 UNAUTHENTICATED': 1 })
  t.same(await send(1, 'GET', config, GUESS, '1.2.3.5'), { '401 UNAUTHENTICATED': 1 }, 'another address')
  advance(50_000)
  t.same(await send(1, 'GET', config, GUESS), { '401 UNAUTHENTICATED': 1 })
})

await t.test('0 turns each limit off', async (t) => {
  const off = { RATE_LIMIT_ADDRESS_PER_MINUTE: 0, RATE_LIMIT_TENANT_PER_MINUTE: 0, RATE_LIMIT_META_PER_MINUTE: 0 }
  const { app, as, send } = await service(t, off)
  t.same(await send(700, 'GET', config, as('acme')), { '404 CONFIG_NOT_FOUND': 700 })
  t.same(await send(40, 'POST', verify, as('acme')), { '404 CONFIG_NOT_FOUND': 40 })
  t.same(await send(70, 'GET', config, GUESS), { '401 UNAUTHENTICATED': 70 })
  const { headers } = await app.inject({ url: config, headers: as('acme') })
  t.same(Object.keys(headers).filter((name) => name.startsWith('ratelimit')), [])
})

await t.test('probes have no limit', async (t) => {
  const { send } = await service(t, { RATE_LIMIT_ADDRESS_PER_MINUTE: 1 })
  t.same(await send(5, 'GET', '/health/live', {}), { 200: 5 })
  t.same(await send(5, 'GET', '/health/ready', {}), { 200: 5 })
})

await t.test('a host server with limits of its own and the service do not count for each other', async (t) => {
  const host = Fastify()
  t.teardown(async () => await host.close())
  await host.register(rateLimit, { global: false, max: 1, allowList: ['acme'] })
  await host.register(whatsappTenantConfig, {
    env: { ...baseEnv, DATABASE_URL: databaseUrl, RATE_LIMIT_TENANT_PER_MINUTE: 2, RATE_LIMIT_ADDRESS_PER_MINUTE: 9 }
  })
  host.get('/', async () => 'ours')
  host.get('/limited', { config: { rateLimit: {} } }, async () => 'ours')
  const headers = { authorization: `Bearer ${host.auth.mint({ tenantId: 'acme' }, 60)}` }
  const statuses = async (count: number, url: string) => {
    const answers = []
    while (answers.length < count) answers.push((await host.inject({ url, headers })).statusCode)
    return answers
  }
  t.same(await statuses(3, config), [404, 404, 429])
  t.same(await statuses(2, '/limited'), [200, 429], 'by the limit of the host')
  t.same(await statuses(12, '/'), Array(12).fill(200))
})

await t.test('a client without an address, as of a UNIX socket, is limited like any other', async (t) => {
  const { app } = await service(t, { RATE_LIMIT_ADDRESS_PER_MINUTE: 1, TRUST_PROXY: 'false' })
  const statuses = []
  for (let i = 0; i < 2; i++) statuses.push((await app.inject({ url: config, remoteAddress: '' })).statusCode)
  t.same(statuses, [401, 429])
})
