import { request } from 'node:http'
import t from '../../run/tap.js'
import { APP, done, startWithControl } from './start-control.js'

const { graph, control, debug } = await startWithControl(t)
await control('POST', 'seed', { apps: [APP, { app_id: '43' }] })
t.afterEach(() => graph.clearFaults())

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
  t.match((await headers()).get('x-app-usage'), /"call_count":100/, 'a fault overrides it')
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
