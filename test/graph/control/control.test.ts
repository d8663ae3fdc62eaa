import { createHmac } from 'node:crypto'
import { request } from 'node:http'
import t from '../../run/tap.js'
import { callerOf } from '../http/client.js'
import { tokenSubcodes } from '../errors.js'
import { faultNames } from './fault-json.js'
import { routes } from '../faults.js'
import { startGraph } from '../server.js'

const graph = await startGraph()
const { raw } = callerOf(graph)
t.teardown(() => graph.close())

const APP = { app_id: '42', app_secret: 'secret', callback_url: 'https://platform.example/' }
const ours = { client_id: '42', client_secret: 'secret' }

/** Sends one request to the control endpoint; returns its status and body. */
async function control (method: string, path: string, json?: unknown) {
  const response = await fetch(`${graph.url}/_control/${path}`, {
    method,
    ...(json !== undefined && { body: JSON.stringify(json) })
  })
  return { status: response.status, body: JSON.parse(await response.text()) }
}
const done = { status: 200, body: {} }
const debug = (token: string) => raw('/v26.0/debug_token', { input_token: token, access_token: '42|secret' })
t.afterEach(() => graph.clearFaults())

await t.test('without an app the control endpoint answers that there is none', async t => {
  for (const [path, json] of [['codes', undefined], ['tokens', {}], ['webhooks', { body: {} }]] as const) {
    t.strictSame(await control('POST', path, json), { status: 400, body: { error: 'there is no app' } })
  }
})

await t.test('seed, state, codes, tokens and revocations work over HTTP', async t => {
  const subscription = { override: { url: 'https://a.example/', verify_token: 'v' } }
  t.strictSame(await control('POST', 'seed', {
    apps: [APP, { app_id: '43' }],
    wabas: [
      {
        id: '102',
        country: 'DE',
        phones: [{ id: '106', pin: '123456', colour: 'mauve' }],
        subscriptions: { 42: subscription }
      },
      { id: '103', app_ids: ['43'] }
    ],
    codes: [{ code: 'AQfixed', age: -3600 }],
    tokens: [{ access_token: 'EAAfixed', expires_in: 0, waba_ids: ['102'] }]
  }), done)
  t.match((await control('GET', 'state')).body, {
    apps: [{ ...APP, require_proof: false }, { app_id: '43', callback_url: null }],
    wabas: [
      {
        id: '102',
        app_ids: ['42', '43'],
        country: 'DE',
        phones: [{ id: '106', pin: '123456', colour: 'mauve', registered: false }],
        subscriptions: { 42: subscription }
      },
      { id: '103', app_ids: ['43'], phones: [{ id: /^\d+$/ }], subscriptions: {} }
    ],
    tokens: [{ access_token: 'EAAfixed', app_id: '42', expires_at: 0, waba_ids: ['102'] }]
  })
  t.match(await (await raw('/v26.0/106', { fields: 'colour' }, { bearer: 'EAAfixed' })).json(), { colour: 'mauve' })
  t.equal((await raw('/v26.0/oauth/access_token', { ...ours, code: 'AQfixed' })).status, 200)

  const { body: { code } } = await control('POST', 'codes', { redirect_uri: 'https://a.example/', expires_in: 60 })
  t.match(
    await (await raw('/v26.0/oauth/access_token', { ...ours, code, redirect_uri: 'https://a.example/' })).json(),
    { expires_in: 60 }
  )
  const { body: { access_token: token } } = await control('POST', 'tokens')
  t.match(await (await debug(token)).json(), { data: { is_valid: true, app_id: '42' } })
  for (const [more, subcode] of [[{}, 458], [{ subcode: 460 }, 460]] as const) {
    t.strictSame(await control('POST', 'revocations', { access_token: token, ...more }), done)
    t.match(await (await debug(token)).json(), { data: { is_valid: false, error: { subcode } } })
  }
})

await t.test('a replaced app applies to the codes and tokens that were issued before', async t => {
  const app = { app_id: '44', app_secret: 'old' }
  await control('POST', 'seed', { apps: [app] })
  const { body: { access_token: token } } = await control('POST', 'tokens', { app_id: '44' })
  const { body: { code } } = await control('POST', 'codes', { app_id: '44' })
  const proof = (secret: string, text = token) => createHmac('sha256', secret).update(text).digest('hex')
  const me = async (params = {}) => {
    const { status } = await raw('/v26.0/me', params, { bearer: token })
    return status
  }
  t.same([await me(), await me({ appsecret_proof: proof('old') })], [200, 200])

  await control('POST', 'seed', { apps: [{ ...app, app_secret: 'new', require_proof: true }] })
  t.same(
    [await me(), await me({ appsecret_proof: proof('old') }), await me({ appsecret_proof: proof('new') })],
    [400, 400, 200]
  )
  t.match(
    await (await raw('/v26.0/debug_token', {
      input_token: token,
      access_token: '44|new',
      appsecret_proof: proof('new', '44|new')
    })).json(),
    { data: { is_valid: true, app_id: '44' } }
  )
  t.equal((await raw('/v26.0/oauth/access_token', { client_id: '44', client_secret: 'old', code })).status, 400)
  t.equal((await raw('/v26.0/oauth/access_token', { client_id: '44', client_secret: 'new', code })).status, 200)
})

await t.test('an invalid control request is answered with its error', async t => {
  for (const [path, json, error] of [
    ['seed', { apps: [{ app_id: 42 }] }, /^\/apps\/0\/app_id: Expected string/],
    ['seed', { wabas: [{ phones: [{ id: '1', pin: '12' }] }] }, /^\/wabas\/0\/phones\/0\/pin/],
    ['seed', { phones: [] }, /^\/phones: Unexpected/],
    ['seed', [], /^it: Expected object/],
    ['codes', { app_id: '1' }, /^there is no app 1$/],
    ['revocations', { access_token: 'x' }, /no such token/],
    ['faults', { route: 'nowhere' }, /^route: must be one of access_token, extend/],
    ['faults', { route: 'me', fault: 'constructor' }, /^fault: must be one of dropBefore/],
    ['faults', { route: 'me', fault: 'throttled', code: 5 }, /^code: must be one of 4, 80007, 80008$/],
    ['faults', { route: 'me', fault: 'registerRefused' }, /^code: must be one of 100, 133000/],
    ['faults', { route: 'me', fault: 'tokenRefused', subcode: 1 }, /^subcode: must be one of 458/],
    ['faults', { route: 'me', times: 0 }, /^\/times: /],
    ['faults', { route: 'me', fault: 'down', wait: 1 }, /^\/wait: Unexpected/],
    ['webhooks', { body: 'x' }, /^\/body: Expected object/],
    ['webhooks', { app_id: '43', body: {} }, /^the app 43 has no callback_url$/]
  ] as const) t.match(await control('POST', path, json), { status: 400, body: { error } })
  t.match(await (await fetch(`${graph.url}/_control/codes`, { method: 'POST', body: '{' })).json(), { error: /JSON/ })
  for (const [method, path] of [['GET', ''], ['GET', 'codes'], ['POST', 'nothing']] as const) {
    t.match(await control(method, path), { status: 404, body: { error: /^there is only GET state, POST seed, / } })
  }
})

await t.test('each named fault has its effect', async t => {
  const code = () => control('POST', 'codes').then(({ body }) => String(body.code))
  const exchange = async () => await raw('/v26.0/oauth/access_token', { ...ours, code: await code() })
  const list = () => raw('/v26.0/102/phone_numbers', {}, { bearer: 'EAAfixed' })
  const error = (code: number, more: object = {}) => async (response: Response) => t.match(
    await response.json(),
    { error: { code, ...more } }
  )
  const rows: Array<[fault: object, status: number | null, check?: (response: Response) => unknown]> = [
    [{ fault: 'dropBefore' }, null],
    [{ fault: 'dropAfter' }, null],
    [{ fault: 'badGateway' }, 502, async response => t.match(await response.text(), /^<html>/)],
    [{ fault: 'unreadable' }, 200, async response => await t.rejects(response.json())],
    [
      { fault: 'withoutExpiry' },
      200,
      async response => t.strictSame(Object.keys(Object(await response.json())), ['access_token', 'token_type'])
    ],
    [
      { fault: 'withoutToken' },
      200,
      async response => t.strictSame(Object.keys(Object(await response.json())), ['token_type', 'expires_in'])
    ],
    [{ fault: 'extraFields' }, 200, async response => t.match(await response.json(), { future_field: {} })],
    [{ fault: 'unknownEnums' }, 200, async response => t.match(await response.json(), { token_type: 'bearer' })],
    [{ fault: 'otherOrder' }, 200],
    [{ fault: 'oversized' }, 200, async response => t.ok((await response.text()).length > 4_000_000)],
    [{ fault: 'redirect' }, 302, response => t.equal(response.headers.get('location'), 'https://elsewhere.example/')],
    [{ fault: 'redirect', location: '/x' }, 302, response => t.equal(response.headers.get('location'), '/x')],
    [{ fault: 'down' }, 500, error(2, { is_transient: true })],
    [{ fault: 'down', status: 503 }, 503, error(2)],
    [{ fault: 'throttled' }, 429, error(80007)],
    [
      { fault: 'throttled', code: 4 },
      429,
      response => t.match(JSON.parse(response.headers.get('x-app-usage') ?? ''), { call_count: 100 })
    ],
    [{ fault: 'throttled', code: 80008, usage: { business: 99, waba_id: '102', regain_minutes: 7 } }, 429, response => {
      t.match(
        JSON.parse(response.headers.get('x-business-use-case-usage') ?? ''),
        { 102: [{ call_count: 99, estimated_time_to_regain_access: 7 }] }
      )
    }],
    [{ fault: 'tokenRefused' }, 401, async response => t.notOk('error_subcode' in Object(await response.json()).error)],
    ...tokenSubcodes.map((subcode): [object, number, (response: Response) => unknown] => [
      { fault: 'tokenRefused', subcode, status: 400 }, 400, error(190, { error_subcode: subcode })
    ]),
    [{ fault: 'registerRefused', code: 133000 }, 500, error(133000)],
    [{ fault: 'registerRefused', code: 133004 }, 503, error(133004)],
    [{ fault: 'registerRefused', code: 100 }, 400, error(100, { error_subcode: 2388092 })],
    [{ fault: 'callbackRefused' }, 400, error(2200, { message: /HTTP Message = Forbidden$/ })],
    [{ fault: 'callbackRefused', message: 'curl_errno = 28' }, 400, error(2200, { message: /: curl_errno = 28$/ })],
    [{ fault: 'error' }, 400, error(100)],
    [
      { fault: 'error', status: 403, code: 368, subcode: 5, message: 'No.' },
      403,
      error(368, { error_subcode: 5, message: 'No.' })
    ],
    [{ patch: { expires_in: 1 }, without: ['token_type'], headers: { 'x-a': 'b' } }, 200, async response => {
      t.match(response.headers.get('x-a'), 'b')
      const body = Object(await response.json())
      t.match(body, { expires_in: 1 })
      t.notOk('token_type' in body)
    }]
  ]
  t.strictSame([...new Set(rows.map(([fault]) => Object(fault).fault))].filter(name => name), faultNames, 'all of them')
  for (const [fault, status, check] of rows) {
    t.strictSame(await control('POST', 'faults', { route: 'access_token', ...fault }), done)
    if (status === null) await t.rejects(exchange())
    else {
      const response = await exchange()
      t.equal(response.status, status, JSON.stringify(fault))
      await check?.(response)
    }
    t.equal((await exchange()).status, 200, 'once')
  }

  for (const route of routes) t.strictSame(await control('POST', 'faults', { route, fault: 'down' }), done)
  await control('DELETE', 'faults')
  await control('POST', 'faults', { route: 'phone_numbers', fault: 'unknownEnums' })
  t.match(
    await (await list()).json(),
    {
      data: [
        { id: '106', quality_rating: 'NEW_IN_2030', throughput: { level: 'NEW_IN_2030' }, verified_name: 'Lucky Shrub' }
      ]
    }
  )
  const { body: { access_token: wide } } = await control('POST', 'tokens', { waba_ids: ['1', '2'] })
  for (const ids of [['2', '1'], ['1', '2']]) {
    if (ids[0] === '2') await control('POST', 'faults', { route: 'debug_token', fault: 'otherOrder' })
    t.match(await (await debug(wide)).json(), { data: { granular_scopes: [{ target_ids: ids }] } })
  }
  await control('POST', 'faults', { route: 'debug_token', without: ['data.expires_at', 'data.scopes'] })
  const { data } = Object(await (await debug(wide)).json())
  t.strictSame(['expires_at', 'scopes', 'app_id'].filter(key => key in data), ['app_id'])

  await control('POST', 'faults', { route: 'phone_numbers', fault: 'down', times: 2 })
  await control('POST', 'faults', { route: 'phone_numbers', fault: 'badGateway', times: 'always' })
  const statuses: number[] = []
  for (let i = 0; i < 5; i++) statuses.push((await list()).status)
  t.strictSame(statuses, [500, 500, 502, 502, 502])
  t.strictSame(await control('DELETE', 'faults'), done)
  const begun = performance.now()
  await control('POST', 'faults', { route: 'phone_numbers', latency_ms: 60 })
  t.equal((await list()).status, 200)
  t.ok(performance.now() - begun >= 55)

  for (const processed of [true, false]) {
    const text = await code()
    await control('POST', 'faults', { route: 'access_token', fault: 'down', processed })
    await raw('/v26.0/oauth/access_token', { ...ours, code: text })
    t.equal(graph.state.codes.get(text)?.used, processed)
  }
})

await t.test('usage headers stay until they are removed', async t => {
  const headers = async () => (await debug('x')).headers
  t.match((await control('PUT', 'usage', { app: 96, business: 80 })).body, { 'x-app-usage': /"call_count":96/ })
  for (let i = 0; i < 2; i++) {
    t.match(JSON.parse((await headers()).get('x-app-usage') ?? ''), { call_count: 96, total_time: 1, total_cputime: 1 })
    t.match(
      (await headers()).get('x-business-use-case-usage'),
      /whatsapp_business_management.*"call_count":80.*"estimated_time_to_regain_access":0/
    )
  }
  await control('POST', 'faults', { route: 'debug_token', usage: { app: 100 } })
  t.match((await headers()).get('x-app-usage'), /"call_count":100/, 'a fault says otherwise')
  t.strictSame(await control('PUT', 'usage', {}), done)
  t.notOk((await headers()).has('x-app-usage'))
})

await t.test('the control endpoint lists and clears the recorded requests', async t => {
  t.strictSame(await control('DELETE', 'requests'), done)
  await debug('x')
  t.match(
    (await control('GET', 'requests')).body,
    [{ route: 'debug_token', method: 'GET', query: { input_token: 'x' } }]
  )
  t.equal(graph.requests.length, 1, 'what goes to the control endpoint is none')
})

await t.test('the control endpoint answers only hosts and origins of this machine', async t => {
  const ask = (headers: { host: string, origin?: string }) => new Promise<number | undefined>((resolve, reject) => {
    request(`${graph.url}/_control/state`, { headers }, response => resolve(
      response.resume().statusCode
    )).on('error', reject).end()
  })
  for (const headers of [
    { host: 'localhost:8003' },
    { host: '[::1]' },
    { host: '127.0.0.1', origin: 'http://localhost:3000' }
  ]) t.equal(await ask(headers), 200)
  for (const headers of [
    { host: 'evil.example' }, { host: '127.0.0.1.evil.example' }, { host: '127.0.0.1@evil.example' }, { host: 'a b' },
    { host: 'localhost', origin: 'https://evil.example' }, { host: 'localhost', origin: 'null' }
  ]) t.equal(await ask(headers), 403, JSON.stringify(headers))
})
