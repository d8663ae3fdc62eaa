import { createServer } from 'node:http'
import t from '../run/tap.js'
import { graphErrorDetails } from '../../src/errors.js'
import { faults } from '../graph/faults.js'
import { app, callback, calls, json, meta, pin, proof, raw, standIn, thrownBy, token } from './wire.js'

await t.test('listPhoneNumbers reads all pages, each with its appsecret_proof', async t => {
  const { meta, waba, graph, lines } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  meta.fail('phone_numbers', faults.extraFields)
  const phones = await graph.listPhoneNumbers(app, token, waba.id)
  t.strictSame(
    phones,
    waba.phones.map(({ id, display_phone_number, verified_name }) => ({ id, display_phone_number, verified_name }))
  )
  t.equal(phones.length, 250)
  t.equal(meta.requests.length, 3)
  for (const { method, query, headers } of meta.requests) {
    t.match({ method, query, headers }, {
      method: 'GET',
      query: { limit: '100', appsecret_proof: proof(token), access_token: undefined },
      headers: { authorization: `Bearer ${token}` }
    })
  }
  t.same(lines, [])
})

await t.test('null for an optional value of a page counts as absent', async t => {
  const { meta, waba, graph } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  // The first page has 100 of the 250 numbers: without a link to the next page the list ends there.
  for (const patch of [
    { paging: null },
    { paging: { next: null } },
    { paging: { cursors: null, next: null } },
    { paging: { cursors: { after: null }, next: null } }
  ]) {
    meta.fail('phone_numbers', { patch })
    t.equal((await graph.listPhoneNumbers(app, token, waba.id)).length, 100)
  }
  for (const patch of [
    { data: null }, { data: [null] }, { paging: { cursors: null } }, { paging: { cursors: { after: null } } }
  ]) {
    meta.fail('phone_numbers', { patch })
    await t.rejects(graph.listPhoneNumbers(app, token, waba.id), { code: 'META_UNEXPECTED_REPLY' })
  }
  const bare = {
    data: [{ id: '1' }, { id: '2', display_phone_number: null, verified_name: null }],
    paging: { next: null }
  }
  meta.fail('phone_numbers', { patch: bare })
  t.strictSame(
    await graph.listPhoneNumbers(app, token, waba.id),
    ['1', '2'].map(id => ({ id, display_phone_number: null, verified_name: null }))
  )
})

await t.test('endless paging ends with an error after 50 pages or the time of one call', async t => {
  let page = 0
  const another = (after: string) => json(200, {
    data: [{ id: '1' }],
    paging: { cursors: { after }, next: 'http://127.0.0.1:1/' }
  })
  const endless = await meta(t, (res) => { another(String(page++))(res) })
  await t.rejects(endless.graph.listPhoneNumbers(app, token, '1'), { code: 'META_UNEXPECTED_REPLY' })
  t.equal(endless.urls.length, 50)

  const standing = await meta(t, another('x'))
  await t.rejects(standing.graph.listPhoneNumbers(app, token, '1'), { code: 'META_UNEXPECTED_REPLY' })
  t.equal(standing.urls.length, 2, 'a page that leads to itself')

  const slow = await meta(t, (res) => { setTimeout(() => { another(String(page++))(res) }, 300) })
  await t.rejects(slow.graph.listPhoneNumbers(app, token, '1'), { code: 'META_TIMEOUT' })
  t.ok(slow.urls.length <= 7, 'all pages together have the time of one call')

  const limited = await meta(t, () => {})
  const limit = new AbortController()
  const listed = limited.graph.listPhoneNumbers(app, token, '1', limit.signal)
  limit.abort('for any reason')
  await t.rejects(listed, { code: 'META_TIMEOUT' }, 'the limit of several calls')
})

await t.test('an id is one segment of the path, whatever it contains', async t => {
  const { graph, urls } = await meta(t, json(200, { data: [], success: true, id: '1' }))
  const ids = ['new/../id', '../../me', '?a=b', '#a', '%2e%2e', '...', 'é 1', '..\\']
  const ofWaba = [
    (id: string) => graph.listPhoneNumbers(app, token, id),
    (id: string) => graph.subscribeApp(app, token, id),
    (id: string) => graph.overrideCallback(app, token, id, callback),
    (id: string) => graph.subscriptionOf(app, token, id),
    (id: string) => graph.unsubscribeApp(app, token, id)
  ]
  const ofPhone = [
    (id: string) => graph.overridePhoneCallback(app, token, id, callback),
    (id: string) => graph.effectiveCallback(app, token, id),
    (id: string) => graph.registerNumber(app, token, id, pin)
  ]
  const ends = ['/phone_numbers', ...Array(4).fill('/subscribed_apps'), '', '', '/register']
  for (const [i, call] of [...ofWaba, ...ofPhone].entries()) {
    urls.length = 0
    for (const id of ids) await call(id)
    t.strictSame(urls.map(url => url?.split('?')[0]), ids.map(id => `/v26.0/${encodeURIComponent(id)}${ends[i]}`))
    const code = i < ofWaba.length ? 'META_WABA_NOT_ACCESSIBLE' : 'META_PHONE_NOT_IN_WABA'
    for (const id of ['', '.', '..']) {
      const err = await thrownBy(call(id))
      t.match(err, { code })
      t.match(graphErrorDetails(err), { sent: false })
    }
    t.equal(urls.length, ids.length)
  }
})

await t.test('subscribing, overriding callbacks, reading them and unsubscribing work at the stand-in', async t => {
  const { meta, waba, graph } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  const other = meta.state.addApp()
  waba.subscriptions.set(other.app_id, { override: { url: 'https://other.example/', verify_token: 'x' } })
  const asked: (string | null)[] = []
  const hook = createServer((req, res) => {
    const { searchParams } = new URL(`http://hook${req.url}`)
    asked.push(searchParams.get('hub.verify_token'))
    res.end(searchParams.get('hub.verify_token') === callback.verify_token ? searchParams.get('hub.challenge') : '')
  })
  await new Promise<void>(resolve => { hook.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { hook.closeAllConnections(); hook.close() })
  const address = hook.address()
  const callback_url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : address}/hook?a=%7e&b=é+1`

  t.equal(await graph.subscriptionOf(app, token, waba.id), null)
  t.equal(await graph.effectiveCallback(app, token, '7'), null)
  await graph.subscribeApp(app, token, waba.id)
  t.strictSame(await graph.subscriptionOf(app, token, waba.id), { override_callback_uri: null })

  await t.rejects(
    graph.overrideCallback(app, token, waba.id, { ...callback, callback_url }),
    { code: 'META_APP_REJECTED' },
    'the app has no webhook'
  )
  const seen = [...meta.state.apps.values()].find(({ app_id }) => app_id === app.id)
  if (seen) seen.callback_url = 'https://app.example/'
  t.equal(await graph.effectiveCallback(app, token, '7'), 'https://app.example/')
  await t.rejects(
    graph.overrideCallback(app, token, waba.id, { callback_url, verify_token: 'wrong' }),
    { code: 'META_CALLBACK_REFUSED' }
  )
  await t.rejects(
    graph.overrideCallback(app, token, waba.id, {
      callback_url: `https://${'a'.repeat(200)}.example/`,
      verify_token: 'x'
    }),
    { code: 'META_CALLBACK_REFUSED' }
  )
  await graph.overrideCallback(app, token, waba.id, { callback_url, verify_token: callback.verify_token })
  t.strictSame(asked, ['wrong', callback.verify_token])
  t.strictSame(await graph.subscriptionOf(app, token, waba.id), { override_callback_uri: callback_url })
  t.equal(await graph.effectiveCallback(app, token, '7'), callback_url)

  const ofPhone = `${callback_url}&of=phone`
  await t.rejects(
    graph.overridePhoneCallback(app, token, '7', { callback_url: ofPhone, verify_token: 'wrong' }),
    { code: 'META_CALLBACK_REFUSED' }
  )
  await graph.overridePhoneCallback(app, token, '7', { callback_url: ofPhone, verify_token: callback.verify_token })
  t.strictSame(meta.requests.at(-1)?.headers['content-type'], 'application/json')
  t.strictSame(asked.slice(2), ['wrong', callback.verify_token])
  t.equal(await graph.effectiveCallback(app, token, '7'), ofPhone)
  t.equal(await graph.effectiveCallback(app, token, '8'), callback_url, 'of no other')
  await graph.overridePhoneCallback(app, token, '7', null)
  t.equal(await graph.effectiveCallback(app, token, '7'), callback_url)

  await graph.unsubscribeApp(app, token, waba.id)
  t.equal(await graph.subscriptionOf(app, token, waba.id), null)
  t.ok(waba.subscriptions.has(other.app_id))

  for (const { route, method, path, query, form, headers } of meta.requests) {
    t.match({ query, headers }, {
      query: { appsecret_proof: proof(token) },
      headers: { authorization: `Bearer ${token}` }
    })
    t.notMatch(path + JSON.stringify(query), callback.verify_token)
    if (method !== 'GET' && !route?.endsWith('override')) t.strictSame(form, {})
  }
})

await t.test('an absent, null or empty callback in a reply counts as none', async t => {
  const { meta, waba, graph } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  const ours = { whatsapp_business_api_data: { id: app.id } }
  for (const [data, expected] of [
    [[], null],
    [[{}], null],
    [
      [
        { whatsapp_business_api_data: null }, { whatsapp_business_api_data: { id: null } },
        { whatsapp_business_api_data: { id: '1' } }
      ],
      null
    ],
    [[{}, ours], { override_callback_uri: null }],
    [[{ ...ours, override_callback_uri: null }], { override_callback_uri: null }],
    [[{ ...ours, override_callback_uri: '' }], { override_callback_uri: null }]
  ] as const) {
    meta.fail('subscriptions', { patch: { data } })
    t.strictSame(await graph.subscriptionOf(app, token, waba.id), expected)
  }
  for (const [webhook_configuration, expected] of [
    [undefined, null],
    [null, null],
    [{}, null],
    [{ phone_number: '', whatsapp_business_account: null, application: 'https://a.example/' }, 'https://a.example/'],
    [{ whatsapp_business_account: 'https://w.example/', application: 'https://a.example/' }, 'https://w.example/']
  ] as const) {
    meta.fail('phone', { patch: { webhook_configuration } })
    t.equal(await graph.effectiveCallback(app, token, '1'), expected)
  }
})

await t.test('registerNumber sends the PIN in the body only', async t => {
  const { meta, waba, graph, lines, successes } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  await graph.registerNumber(app, token, '1', pin)
  await graph.registerNumber(app, token, '1', pin)
  t.match(waba.phones[0], { id: '1', pin, registered: true })
  await t.rejects(graph.registerNumber(app, token, '1', '000000'), { code: 'META_REGISTER_REFUSED' })
  await t.rejects(graph.registerNumber(app, token, '1', '12345'), { code: 'META_REGISTER_REFUSED' })
  t.strictSame(meta.requests[0]?.headers['content-type'], 'application/json')
  t.strictSame(meta.requests[0]?.form, { messaging_product: 'whatsapp', pin })
  t.strictSame(meta.requests[0]?.query, { appsecret_proof: proof(token) })
  t.notMatch(JSON.stringify([lines, successes]), pin)
})

await t.test('after a 421 fetch repeats only reads', async t => {
  for (const [route, call] of Object.entries(calls)) {
    // After a 421 fetch repeats a request without a body, or with one that it can read again.
    const { graph, urls } = await meta(t, raw(421, ''))
    t.match(
      await thrownBy(call(graph)),
      { code: route === 'access_token' ? 'META_EXCHANGE_UNKNOWN' : 'META_UNEXPECTED_REPLY' }
    )
    const reads = ['debug_token', 'phone_numbers', 'subscriptions', 'phone']
    t.equal(urls.length, reads.includes(route) ? 2 : 1, route)
  }
})

await t.test('on a reset connection each call is sent once', async t => {
  const { meta, graph } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  await graph.subscriptionOf(app, token, [...meta.state.wabas.keys()][0] ?? '')
  for (const route of ['subscribe', 'override', 'phone_override', 'unsubscribe', 'register', 'extend'] as const) {
    const before = meta.requests.length
    meta.fail(route, faults.dropBefore)
    const err = await thrownBy(calls[route](graph))
    t.match(err, { code: 'META_UNAVAILABLE' })
    t.match(graphErrorDetails(err), { sent: true })
    t.equal(meta.requests.length, before + 1, route)
  }
})
