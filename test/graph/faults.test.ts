import { once } from 'node:events'
import { createServer } from 'node:http'
import t from '../run/tap.js'
import { GraphError, temporarilyDown, throttled, tokenRefused, tokenSubcodes } from './errors.js'
import { faults, routes, type Fault, type Route } from './faults.js'
import { startWithClient } from './http/client.js'
import { startGraph } from './server.js'

const { graph, state, raw, call } = await startWithClient(t)

const callback = createServer((req, res) => {
  res.end(new URL(req.url ?? '', 'http://localhost').searchParams.get('hub.challenge'))
}).listen(0, '127.0.0.1')
await once(callback, 'listening')
t.teardown(() => callback.close())
const address = callback.address()
const callbackUrl = `http://127.0.0.1:${typeof address === 'object' ? address?.port : address}/`

const app = state.addApp({ callback_url: callbackUrl })
const ours = { client_id: app.app_id, client_secret: app.app_secret }
const waba = state.addWaba({ app_ids: [app.app_id], phones: [{ id: '106' }], subscriptions: { [app.app_id]: {} } })

const scopes = ['whatsapp_business_management', 'whatsapp_business_messaging', 'business_management']
const token = state.issueToken({ app_id: app.app_id, scopes, business_ids: ['107'] })
state.addBusiness({ id: '107', owned_waba_ids: [waba.id] })
const appParams = { ...ours, grant_type: 'client_credentials' }
const ask: Record<Route, () => ReturnType<typeof raw>> = {
  access_token: () => raw('/v26.0/oauth/access_token', appParams),
  debug_token: () => raw('/v26.0/debug_token', { input_token: token, access_token: app.app_token }),
  extend: () => raw('/v26.0/oauth/access_token', {
    ...ours,
    grant_type: 'fb_exchange_token',
    fb_exchange_token: token
  }),
  me: () => raw('/v26.0/me', {}, { bearer: token }),
  businesses: () => raw('/v26.0/me/businesses', {}, { bearer: token }),
  business_accounts: () => raw('/v26.0/107/owned_whatsapp_business_accounts', {}, { bearer: token }),
  app: () => raw(`/v26.0/${app.app_id}`, {}, { bearer: app.app_token }),
  app_subscriptions: () => raw(`/v26.0/${app.app_id}/subscriptions`, {}, { bearer: app.app_token }),
  waba: () => raw(`/v26.0/${waba.id}`, {}, { bearer: token }),
  phone_numbers: () => raw(`/v26.0/${waba.id}/phone_numbers`, {}, { bearer: token }),
  phone: () => raw('/v26.0/106', {}, { bearer: token }),
  phone_override: () => raw('/v26.0/106', {}, {
    bearer: token,
    json: { webhook_configuration: { override_callback_uri: callbackUrl, verify_token: 'v' } }
  }),
  subscribe: () => raw(`/v26.0/${waba.id}/subscribed_apps`, {}, { bearer: token, form: {} }),
  override: () => raw(`/v26.0/${waba.id}/subscribed_apps`, {}, {
    bearer: token,
    form: { override_callback_uri: callbackUrl, verify_token: 'v' }
  }),
  subscriptions: () => raw(`/v26.0/${waba.id}/subscribed_apps`, {}, { bearer: token }),
  unsubscribe: async () => {
    // The routes after this one need the subscription.
    const response = await raw(`/v26.0/${waba.id}/subscribed_apps`, {}, { bearer: token, method: 'DELETE' })
    waba.subscriptions.set(app.app_id, {})
    return response
  },
  register: async () => {
    resetPhone()
    return await raw('/v26.0/106/register', {}, {
      bearer: token,
      json: { messaging_product: 'whatsapp', pin: '123456' }
    })
  },
  deregister: async () => {
    resetPhone().registered = true
    return await raw('/v26.0/106/deregister', {}, { bearer: token, method: 'POST' })
  },
  messages: () => {
    resetPhone().registered = true
    return raw('/v26.0/106/messages', {}, {
      bearer: token,
      json: { messaging_product: 'whatsapp', to: '16505551234', text: { body: 'Hello' } }
    })
  }
}

/** The phone number, with its attempts reset. */
function resetPhone () {
  const [phone] = waba.phones
  if (!phone) throw new Error('there is no phone')
  phone.attempts.length = 0
  return phone
}

t.afterEach(() => graph.clearFaults())

await t.test('each fault affects one request of its route', async t => {
  for (const route of routes) {
    for (const error of [
      temporarilyDown(), throttled(4), throttled(80007), throttled(80008), tokenRefused(),
      ...tokenSubcodes.map(subcode => tokenRefused(subcode, 401)),
      new GraphError(403, 10, '(#10) Ünusual\nmessage', { error_data: 'any' })
    ]) {
      graph.fail(route, { reply: error })
      const response = await ask[route]()
      t.equal(response.status, error.status)
      t.match(await response.json(), { error: { ...error.extra, code: error.code, message: error.message } })
      t.equal((await ask[route]()).status, 200)
    }
    graph.fail(route, faults.dropBefore)
    await t.rejects(ask[route]())
    graph.fail(route, faults.badGateway)
    const html = await ask[route]()
    t.strictSame([html.status, html.headers.get('content-type')], [502, 'text/html'])
    graph.fail(route, faults.bareError)
    const bare = await ask[route]()
    t.strictSame([bare.status, await bare.text()], [400, '{"error":{}}'])
    graph.fail(route, faults.unreadable)
    const truncated = await ask[route]()
    t.equal(truncated.status, 200)
    await t.rejects(truncated.json())
    graph.fail(route, faults.redirect('https://elsewhere.example/'))
    const moved = await ask[route]()
    t.strictSame([moved.status, moved.headers.get('location')], [302, 'https://elsewhere.example/'])
    graph.fail(route, faults.oversized)
    t.ok((await (await ask[route]()).text()).length > 4_000_000)
    graph.fail(route, faults.extraFields)
    t.match(await (await ask[route]()).json(), { future_field: {} })
    t.equal((await ask[route]()).status, 200)
  }
})

await t.test('queued faults of a route apply in order, the last one until cleared', async t => {
  graph.fail('debug_token', { reply: throttled(4), times: 2 })
  graph.fail('debug_token', { reply: temporarilyDown(), times: Infinity })
  const statuses: number[] = []
  for (let i = 0; i < 5; i++) statuses.push((await ask.debug_token()).status)
  t.strictSame(statuses, [429, 429, 500, 500, 500])
  t.equal((await ask.access_token()).status, 200, 'another route goes on')
  graph.clearFaults()
  t.equal((await ask.debug_token()).status, 200)
})

await t.test('a fault uses the code only if the request is processed', async t => {
  const rows: Array<[string, Fault, boolean]> = [
    ['dropped before', faults.dropBefore, false],
    ['dropped after', faults.dropAfter, true],
    ['502', faults.badGateway, false],
    ['502 after', { ...faults.badGateway, processed: true }, true],
    ['unreadable', faults.unreadable, true],
    ['oversized', faults.oversized, true],
    ['late', { latency_ms: 1 }, true]
  ]
  for (const [name, fault, isUsed] of rows) {
    const code = state.issueCode({ app_id: app.app_id })
    graph.fail('access_token', fault)
    await raw('/v26.0/oauth/access_token', { ...ours, code }).catch(() => {})
    t.equal(state.codes.get(code)?.used, isUsed, name)
  }
})

await t.test('a fault can remove or change members of the answer', async t => {
  for (const [fault, missing] of [
    [faults.withoutExpiry, 'expires_in'], [faults.withoutToken, 'access_token']
  ] as const) {
    graph.fail('access_token', fault)
    const { status, body } = await call('/v26.0/oauth/access_token', {
      ...ours,
      code: state.issueCode({ app_id: app.app_id })
    })
    t.equal(status, 200)
    t.strictSame(['access_token', 'expires_in'].filter(key => !(key in body)), [missing])
  }
  graph.fail('debug_token', { patch: { data: { app_id: 'other' } } })
  t.match(await (await ask.debug_token()).json(), { data: { app_id: 'other', is_valid: true } })
})

await t.test('a fault can change the types of an answer', async t => {
  const big = state.addWaba({ app_ids: [app.app_id], id: '12345678901234567' })
  const input = state.issueToken({ app_id: app.app_id, waba_ids: [big.id], expires_in: 0, scopes: [scopes[0] ?? ''] })
  const inspected = async (fault: Fault) => {
    graph.fail('debug_token', fault)
    return await (await raw('/v26.0/debug_token', { input_token: input, access_token: app.app_token })).text()
  }
  const odd = await inspected(faults.oddTypes)
  for (const part of [`"app_id":${app.app_id},`, '"expires_at":"0"', '"is_valid":"true"', '"type":"SYSTEM_USER"']) {
    t.ok(odd.includes(part), part)
  }
  t.ok(odd.includes(`"target_ids":[${big.id}]`), 'each digit of an id')
  const numeric = await inspected(faults.numericTargets)
  for (const part of [`"app_id":"${app.app_id}"`, '"expires_at":0', `"target_ids":[${big.id}]`]) {
    t.ok(numeric.includes(part), part)
  }
  const listed = state.issueToken({ app_id: app.app_id })
  graph.fail('debug_token', faults.numericTargets)
  const wide = await raw('/v26.0/debug_token', { input_token: listed, access_token: app.app_token })
  t.match(await wide.json(), { data: { granular_scopes: [{ target_ids: undefined }] } }, 'a grant of all has none')
})

await t.test('latency delays the answer, and a client that disconnects is recorded', async t => {
  graph.fail('debug_token', { latency_ms: 60 })
  const startedAt = performance.now()
  t.equal((await ask.debug_token()).status, 200)
  t.ok(performance.now() - startedAt >= 55)
  t.equal(graph.requests.at(-1)?.hung_up, false)

  graph.fail('access_token', { latency_ms: 60_000 })
  await t.rejects(raw('/v26.0/oauth/access_token', appParams, { signal: AbortSignal.timeout(50) }))
  const record = graph.requests.at(-1)
  for (let i = 0; i < 100 && !record?.hung_up; i++) await new Promise(resolve => setTimeout(resolve, 10))
  t.equal(record?.hung_up, true)
})

await t.test('requests are recorded with route, query and form', async t => {
  graph.requests.length = 0
  await call(
    '/v25.0/a%2Fb/phone_numbers',
    { access_token: 'x', redirect_uri: 'https://a.example/?b=c' },
    { bearer: 'y' }
  )
  await call('/v26.0/oauth/access_token', { q: '1' }, { form: { code: 'c' } })
  await fetch(`${graph.url}/v26.0/debug_token?input_token=a?b`, { method: 'POST', body: '{}' })
  t.match(graph.requests, [
    {
      route: 'phone_numbers',
      method: 'GET',
      path: '/v25.0/a%2Fb/phone_numbers',
      query: { access_token: 'x', redirect_uri: 'https://a.example/?b=c' },
      form: {},
      headers: { authorization: 'Bearer y' },
      hung_up: false
    },
    {
      route: 'access_token',
      method: 'POST',
      path: '/v26.0/oauth/access_token',
      query: { q: '1' },
      form: { code: 'c' }
    },
    { route: null, method: 'POST', path: '/v26.0/debug_token', query: { input_token: 'a?b' }, form: {} }
  ])
  t.equal(graph.requests.length, 3)
})

await t.test('close() does not wait for pending requests', async t => {
  const other = await startGraph()
  other.fail('debug_token', { latency_ms: 60_000 })
  const pending = t.rejects(fetch(`${other.url}/v26.0/debug_token`))
  while (other.requests.length === 0) await new Promise(resolve => setTimeout(resolve, 5))
  await other.close()
  await pending
})
