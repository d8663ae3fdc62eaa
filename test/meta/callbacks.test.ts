import { createServer } from 'node:http'
import t from '../run/tap.js'
import { app, callback, proof, standIn } from './wire.js'

await t.test('subscribing, overriding callbacks, reading them and unsubscribing work at the stand-in', async t => {
  const { meta, waba, graph } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  const other = meta.state.addApp()
  waba.subscriptions.set(other.app_id, { override: { url: 'https://other.example/', verify_token: 'x' } })
  const verifyTokens: (string | null)[] = []
  const hook = createServer((req, res) => {
    const { searchParams } = new URL(`http://hook${req.url}`)
    verifyTokens.push(searchParams.get('hub.verify_token'))
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
  t.strictSame(verifyTokens, ['wrong', callback.verify_token])
  t.strictSame(await graph.subscriptionOf(app, token, waba.id), { override_callback_uri: callback_url })
  t.equal(await graph.effectiveCallback(app, token, '7'), callback_url)

  const ofPhone = `${callback_url}&of=phone`
  await t.rejects(
    graph.overridePhoneCallback(app, token, '7', { callback_url: ofPhone, verify_token: 'wrong' }),
    { code: 'META_CALLBACK_REFUSED' }
  )
  await graph.overridePhoneCallback(app, token, '7', { callback_url: ofPhone, verify_token: callback.verify_token })
  t.strictSame(meta.requests.at(-1)?.headers['content-type'], 'application/json')
  t.strictSame(verifyTokens.slice(2), ['wrong', callback.verify_token])
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
