import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { callerOf } from './http/client.js'
import { startGraph } from './server.js'

const graph = await startGraph()
const { state } = graph
const { call } = callerOf(graph)
t.teardown(() => graph.close())

const app = state.addApp({ callback_url: 'https://platform.example/webhooks' })
const other = state.addApp()
const ours = { client_id: app.app_id, client_secret: app.app_secret }
const bearer = state.issueToken({ app_id: app.app_id })
const stranger = state.issueToken({ app_id: other.app_id })
const gone = (id: string, method: string) => ({
  status: 400,
  body: {
    error: {
      code: 100,
      error_subcode: 33,
      type: 'GraphMethodException',
      message: `Unsupported ${method} request. Object with ID '${id}' does not exist`
    }
  }
})

/** A WABA with one phone number, and functions that call their routes. */
function account (seed: object = {}) {
  const waba = state.addWaba({ app_ids: [app.app_id], ...seed })
  const [phone] = waba.phones
  if (!phone) throw new Error('there is no phone')
  const edge = `/v26.0/${waba.id}/subscribed_apps`
  return {
    waba,
    phone,
    subscribed: () => call(edge, {}, { bearer }),
    subscribe: (form: Record<string, string> = {}) => call(edge, {}, { bearer, form }),
    subscribeJson: (json: object) => call(edge, {}, { bearer, json }),
    unsubscribe: () => call(edge, {}, { bearer, method: 'DELETE' }),
    changePhone: (json: object) => call(`/v26.0/${phone.id}`, {}, { bearer, json }),
    fields: async (fields: string) => (await call(`/v26.0/${phone.id}`, { fields }, { bearer })).body,
    register: (pin?: unknown, more: object = { messaging_product: 'whatsapp' }) => call(
      `/v26.0/${phone.id}/register`,
      {},
      { bearer, json: { ...more, pin } }
    ),
    deregister: () => call(`/v26.0/${phone.id}/deregister`, {}, { bearer, method: 'POST' })
  }
}

/** A callback server with the given handler; returns its URL. */
async function callback (
  t: Test,
  answer: (query: URLSearchParams, res: ServerResponse, req: IncomingMessage) => unknown
) {
  const server = createServer((req, res) => answer(new URL(req.url ?? '', 'http://localhost').searchParams, res, req))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return `http://127.0.0.1:${address.port}/hook?tenant=1`
}

await t.test('subscribed_apps: an app subscribes, sets and clears an override, and unsubscribes', async t => {
  const asked: Array<Record<string, string>> = []
  const url = await callback(t, (query, res) => {
    asked.push(Object.fromEntries(query))
    res.end(query.get('hub.challenge'))
  })
  const { waba, subscribe, subscribeJson, subscribed, unsubscribe } = account()
  const mine = {
    whatsapp_business_api_data: {
      id: app.app_id,
      name: 'Stand-in',
      link: `https://www.facebook.com/games/?app_id=${app.app_id}`
    }
  }
  t.strictSame((await subscribed()).body, { data: [] })
  for (let i = 0; i < 2; i++) t.match(await subscribe(), { status: 200, body: { success: true } })
  waba.subscriptions.set('1', {})
  t.match((await subscribed()).body, { data: [mine, { whatsapp_business_api_data: { id: '1' } }] }, 'all the apps')

  const wanted = { override_callback_uri: url, verify_token: 'ü &=?' }
  for (const send of [subscribe, subscribeJson]) {
    t.match(await send(wanted), { status: 200, body: { success: true } })
    t.strictSame((await subscribed()).body.data[0], { ...mine, override_callback_uri: url })
    t.match(asked.pop(), {
      tenant: '1',
      'hub.mode': 'subscribe',
      'hub.challenge': /^\d+$/,
      'hub.verify_token': 'ü &=?'
    })
    t.strictSame(waba.subscriptions.get(app.app_id), { override: { url, verify_token: 'ü &=?' } })
    t.equal((await subscribe()).status, 200)
    t.strictSame((await subscribed()).body.data[0], mine, 'an empty POST clears it')
  }
  t.match(await unsubscribe(), { status: 200, body: { success: true } })
  t.match((await subscribed()).body, { data: [{ whatsapp_business_api_data: { id: '1' } }] })
  t.same([
    ...new Set(graph.requests.map(({ route }) => route))
  ], ['subscriptions', 'subscribe', 'override', 'unsubscribe'])
  t.match(graph.requests.findLast(({ route }) => route === 'override')?.form, wanted, 'JSON is recorded as a form is')
})

await t.test('an override requires a callback that echoes the challenge', async t => {
  const { waba, subscribe } = account({ subscriptions: { [app.app_id]: {} } })
  const refused = async (url: string, message: string | RegExp, code: number, verifyToken = 'v') => {
    t.match(
      await subscribe({ override_callback_uri: url, verify_token: verifyToken }),
      { status: 400, body: { error: { type: 'OAuthException', code, message } } },
      url
    )
    t.strictSame(waba.subscriptions.get(app.app_id), {})
  }
  const failed = '(#2200) Callback verification failed with the following errors: '
  await refused(
    await callback(t, (_, res) => res.writeHead(403).end()),
    `${failed}HTTP Status Code = 403; HTTP Message = Forbidden`,
    2200
  )
  await refused(
    await callback(t, (query, res) => res.end(`"${query.get('hub.challenge')}"`)),
    `${failed}Response does not match challenge`,
    2200
  )
  await refused(
    await callback(t, (query, res) => res.writeHead(201).end(query.get('hub.challenge'))),
    'HTTP Status Code = 201',
    2200
  )
  await refused(
    await callback(t, (_, res) => res.writeHead(302, { location: '/' }).end()),
    'HTTP Status Code = 302',
    2200
  )
  await refused(await callback(t, (_, res) => res.destroy()), 'curl_errno = 7', 2200)
  const begun = performance.now()
  await refused(await callback(t, () => {}), /curl_errno = 28; .*timed out/, 2200)
  t.match(Math.round((performance.now() - begun) / 1000), 6)

  const long = `https://a.example/${'x'.repeat(182)}`
  t.equal(long.length, 200)
  for (const url of [
    `${long}x`, 'http://a.example/', 'ftp://127.0.0.1/', 'https://', 'x'
  ]) await refused(url, '(#100)', 100)
  await refused('https://a.example/', '(#100) The parameter verify_token is required', 100, '')
  const before = '(#100) Before override the current callback uri, your app must be subscribed to receive messages ' +
    'for WhatsApp Business Account'
  app.callback_url = null
  await refused(long, before, 100)
  app.callback_url = 'https://platform.example/webhooks'
  const fresh = account()
  t.match(
    await fresh.subscribe({ override_callback_uri: long, verify_token: 'v' }),
    { status: 400, body: { error: { code: 100, message: before } } }
  )
})

await t.test('a phone number has its own callback and PIN', async t => {
  const asked: Array<Record<string, string>> = []
  const url = await callback(t, (query, res) => {
    asked.push(Object.fromEntries(query))
    res.end(query.get('hub.verify_token') === 'ü &=?' ? query.get('hub.challenge') : '')
  })
  const { phone, waba, subscribe, changePhone, fields } = account()
  const set = (override_callback_uri: unknown, verify_token?: unknown) => changePhone(
    { webhook_configuration: { override_callback_uri, verify_token } }
  )
  const refusal = (code: number, message: string | RegExp) => ({
    status: 400,
    body: { error: { type: 'OAuthException', code, message } }
  })
  t.match(await set(url, 'ü &=?'), refusal(100, '(#100) Before override the current callback uri'))
  await subscribe()
  t.match(await set(url, 'ü &=?'), { status: 200, body: { success: true } })
  t.equal(graph.requests.at(-1)?.route, 'phone_override')
  t.strictSame(
    JSON.parse(graph.requests.at(-1)?.form['webhook_configuration'] ?? ''),
    { override_callback_uri: url, verify_token: 'ü &=?' },
    'JSON within is recorded as text'
  )
  t.match(asked, [{ tenant: '1', 'hub.mode': 'subscribe', 'hub.challenge': /^\d+$/, 'hub.verify_token': 'ü &=?' }])
  t.strictSame((await fields('webhook_configuration')).webhook_configuration, {
    phone_number: url,
    application: app.callback_url
  })
  t.strictSame(waba.subscriptions.get(app.app_id), {}, 'the WABA has none')

  t.match(await set(url, 'x'), refusal(2200, 'Response does not match challenge'))
  t.match(await set('http://a.example/', 'x'), refusal(100, '(#100) Param override_callback_uri'))
  t.match(await set(`https://a.example/${'x'.repeat(183)}`, 'x'), refusal(100, '200 characters'))
  t.match(await set(url), refusal(100, 'verify_token is required'))
  for (const odd of [null, {}, { override_callback_uri: 1 }, 'x', []]) {
    t.match(await changePhone({ webhook_configuration: odd }), refusal(100, '(#100) Param webhook_configuration'))
  }
  t.strictSame(phone.override, { url, verify_token: 'ü &=?' }, 'what is refused changes nothing')
  for (let i = 0; i < 2; i++) t.match(await set(''), { status: 200, body: { success: true } })
  t.strictSame(
    (await fields('webhook_configuration')).webhook_configuration,
    { application: app.callback_url },
    'an empty one takes it away'
  )
  t.equal(
    (await call(`/v26.0/${phone.id}`, {}, {
      bearer,
      form: { webhook_configuration: JSON.stringify({ override_callback_uri: url, verify_token: 'ü &=?' }) }
    })).status,
    200,
    'a form'
  )

  t.match(await changePhone({ pin: '246810' }), { status: 200, body: { success: true } })
  t.match(phone, { pin: '246810', attempts: [], override: { url } })
  t.match(await changePhone({ pin: '2468' }), refusal(100, '(#100)'))
  t.match(await changePhone({ future: 1 }), refusal(2500, 'An active access token'))
})

await t.test('an object without access is answered as if it did not exist', async t => {
  const { waba, phone } = account()
  for (const [path, method] of [[waba.id, 'GET'], [phone.id, 'GET'], ['1', 'GET'], [
    `${waba.id}/subscribed_apps`, 'GET'
  ], [`${waba.id}/subscribed_apps`, 'POST'],
  [`${waba.id}/subscribed_apps`, 'DELETE'], [`${phone.id}/register`, 'POST'], [`${phone.id}/deregister`, 'POST'],
  [`${phone.id}/messages`, 'POST']] as const) {
    t.match(
      await call(`/v26.0/${path}`, {}, { bearer: stranger, method }),
      gone(path.split('/')[0] ?? '', method.toLowerCase()),
      `${method} ${path}`
    )
    t.match(await call(`/v26.0/${path}`, {}, { bearer: 'x', method }), { status: 401, body: { error: { code: 190 } } })
  }
  t.match(await call(`/v26.0/${phone.id}`, {}, { bearer: stranger, json: { pin: '123456' } }), gone(phone.id, 'post'))
  t.strictSame([waba.subscriptions.size, phone.pin], [0, null])
  const mute = state.issueToken({ app_id: app.app_id, scopes: [] })
  for (const path of [waba.id, phone.id]) {
    t.match(await call(`/v26.0/${path}`, {}, { bearer: mute }), { status: 403, body: { error: { code: 200 } } })
  }
})

await t.test('a WABA and a phone number show the requested fields', async t => {
  const { waba, phone, fields } = account({
    name: 'Acme',
    country: 'DE',
    phones: [{ id: '4711', verified: false, pin: '123456', quality_rating: 'PURPLE' }]
  })
  t.strictSame((await call(`/v26.0/${waba.id}`, {}, { bearer })).body, { id: waba.id, name: 'Acme' })
  t.strictSame(
    (await call(`/v26.0/${waba.id}`, { fields: 'country,status,app_ids,phones,subscriptions' }, { bearer })).body,
    { country: 'DE', id: waba.id }
  )
  t.match((await call('/v26.0/4711', {}, { bearer })).body, {
    id: '4711',
    verified_name: 'Lucky Shrub',
    quality_rating: 'PURPLE',
    code_verification_status: 'NOT_VERIFIED'
  })
  t.strictSame(await fields('status,pin,registered,verified,attempts,override'), { status: 'PENDING', id: '4711' })

  const application = app.callback_url
  t.strictSame((await fields('webhook_configuration')).webhook_configuration, { application })
  waba.subscriptions.set(app.app_id, { override: { url: 'https://waba.example/', verify_token: 'v' } })
  phone.override = { url: 'https://phone.example/', verify_token: 'v' }
  t.strictSame((await fields('webhook_configuration')).webhook_configuration,
    { phone_number: 'https://phone.example/', whatsapp_business_account: 'https://waba.example/', application })
})

await t.test('register checks the PIN, and both routes share one rate limit', async t => {
  const { phone, register, deregister, fields } = account()
  const refusal = (code: number, status = 400) => ({
    status,
    body: { error: { code, message: `(#${code})`, error_data: { messaging_product: 'whatsapp', details: /\w/ } } }
  })
  for (const pin of [undefined, '12345', '1234567', 'abcdef', '']) {
    t.match(await register(pin), { ...refusal(100), body: { error: { error_subcode: 2388092 } } })
  }
  t.match(await register('123456', {}), { status: 400, body: { error: { code: 100 } } }, 'without messaging_product')
  t.match(await deregister(), refusal(133010))
  t.match(await register('123456'), { status: 200, body: { success: true } })
  t.match(phone, { pin: '123456', registered: true })
  t.match(await fields('status'), { status: 'CONNECTED' })
  t.match(await register('123456'), { status: 200, body: { success: true } }, 'again')
  t.match(await register('654321'), refusal(133005))
  t.match(await register('654321'), { body: { error: { message: '(#133005) Two step verification PIN Mismatch' } } })
  t.match(await deregister(), { status: 200, body: { success: true } })
  t.match(phone, { pin: '123456', registered: false })
  phone.verified = false
  t.match(await register('123456'), refusal(133006))
  phone.verified = true
  for (let i = phone.attempts.length; i < 10; i++) t.equal((await register(123456)).status, 200, 'a number in JSON')
  for (const attempt of [() => register('123456'), deregister]) t.match(await attempt(), refusal(133016))
  phone.attempts.fill(Math.floor(Date.now() / 1000) - 72 * 3600)
  t.equal((await register('123456')).status, 200, 'three days later')
  t.equal(
    (await call(`/v26.0/${phone.id}/register`, {}, {
      bearer,
      form: { messaging_product: 'whatsapp', pin: '123456' }
    })).status,
    200,
    'a form'
  )
  t.match(
    await call(`/v26.0/${phone.id}/register`, {}, { bearer, json: '{"pin' }),
    { status: 400, body: { error: { code: 100 } } },
    'a broken body'
  )
})

await t.test('fb_exchange_token', async t => {
  const extend = (token: string, more: Record<string, string> = {}) =>
    call('/v26.0/oauth/access_token', { ...ours, grant_type: 'fb_exchange_token', fb_exchange_token: token, ...more })
  const days = { set_token_expires_in_60_days: 'true' }
  const soon = state.issueToken({
    app_id: app.app_id,
    expires_in: 60,
    waba_ids: ['1'],
    scopes: ['whatsapp_business_management']
  })
  for (const more of [{}, days]) {
    const { status, body } = await extend(soon, more)
    t.equal(status, 200)
    t.match(body, { access_token: /^EAA/, token_type: 'bearer', expires_in: 5183944 })
    t.not(body.access_token, soon)
    const { data } = (await call('/v26.0/debug_token', {
      input_token: body.access_token,
      access_token: app.app_token
    })).body
    t.match(data, {
      is_valid: true,
      granular_scopes: [{ target_ids: ['1'] }],
      user_id: state.tokens.get(soon)?.user_id
    })
    t.ok(data.expires_at - Date.now() / 1000 > 5183900)
  }
  t.ok((state.tokens.get(soon)?.expires_at ?? 0) - Date.now() / 1000 < 61, 'the old one keeps its end')
  const forEver = state.issueToken({ app_id: app.app_id, expires_in: 0 })
  t.strictSame(Object.keys((await extend(forEver)).body), ['access_token', 'token_type'])
  t.match((await extend(forEver, days)).body, { expires_in: 5183944 })

  const expired = {
    status: 400,
    body: {
      error: { code: 190, error_subcode: 463, message: /^Error validating access token: Session has expired on/ }
    }
  }
  t.match(await extend(state.issueToken({ app_id: app.app_id, expires_in: -1 })), expired)
  for (const bad of [
    'garbage',
    '',
    stranger,
    app.app_token,
    state.issueToken({ app_id: app.app_id, extendable: false })
  ]) {
    const answer = await extend(bad)
    t.match(answer, {
      status: 400,
      body: { error: { code: 190, message: 'Invalid OAuth access token - Cannot parse access token' } }
    })
    t.notOk('error_subcode' in answer.body.error)
  }
  t.match(await extend(soon, { client_secret: 'x' }), { status: 400, body: { error: { code: 1 } } })
  t.equal(graph.requests.at(-1)?.route, 'extend')
})

await t.test('me', async t => {
  const fields = 'client_business_id'
  const customer = state.issueToken({ app_id: app.app_id, business_id: '77' })
  const user = state.issueToken({ app_id: app.app_id, type: 'USER' })
  const id = state.tokens.get(customer)?.user_id
  t.strictSame((await call('/v26.0/me', { fields }, { bearer: customer })).body, { client_business_id: '77', id })
  t.strictSame((await call('/v26.0/me', { access_token: customer })).body, { name: 'Stand-in', id })
  t.match(await call('/v26.0/me', { fields, access_token: user }), { status: 400, body: { error: { code: 190 } } })
  t.match(await call('/v26.0/me', {}, { bearer: user }), { status: 200, body: { id: /^\d+$/ } })
  t.match(
    await call('/v26.0/debug_token', { input_token: user, access_token: app.app_token }),
    { body: { data: { type: 'USER' } } }
  )
  for (const none of ['', app.app_token]) {
    t.match(await call('/v26.0/me', { access_token: none }), { status: 400, body: { error: { code: 2500 } } })
  }
  const proof = createHmac('sha256', app.app_secret).update(customer).digest('hex')
  t.equal((await call('/v26.0/me', { appsecret_proof: proof }, { bearer: customer })).status, 200)
})
