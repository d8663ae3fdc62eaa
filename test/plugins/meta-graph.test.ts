import Fastify from 'fastify'
import { test } from 'tap'
import env from '../../src/plugins/env.js'
import metaGraph from '../../src/plugins/meta-graph.js'
import { faults } from '../graph/faults.js'
import { app, code, drop, json, meta, proof, raw, refused, standIn, token } from './meta-wire.js'

await test('the stand-in refuses as Meta does', async t => {
  const { meta, waba, graph } = await standIn(t)
  const other = meta.state.addApp()
  const redirectUri = 'https://a.example/cb'
  const issue = (of = {}) => meta.state.issueCode({ app_id: app.id, ...of })
  const used = issue()
  await graph.exchangeCode(app, { code: used })
  const fine = meta.state.issueToken({ app_id: app.id })
  const foreign = meta.state.issueToken({ app_id: other.app_id })
  const elsewhere = meta.state.issueToken({ app_id: app.id, waba_ids: [] })
  const wrongSecret = { ...app, secret: 'x' }

  await t.rejects(graph.exchangeCode(app, { code: used }), { code: 'META_CODE_USED' })
  await t.rejects(graph.exchangeCode(app, { code: issue({ age: 31 }) }), { code: 'META_CODE_EXPIRED' })
  await t.rejects(graph.exchangeCode(app, { code: 'x' }), { code: 'META_CODE_INVALID' })
  await t.rejects(graph.exchangeCode(app, { code: issue({ redirect_uri: redirectUri }) }), { code: 'META_REDIRECT_MISMATCH' })
  await t.rejects(graph.exchangeCode(app, { code: issue({ redirect_uri: redirectUri }), redirect_uri: `${redirectUri}/` }), { code: 'META_REDIRECT_MISMATCH' })
  await t.rejects(graph.exchangeCode(wrongSecret, { code: issue() }), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.exchangeCode({ ...app, id: '1' }, { code: issue() }), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.inspectToken(app, foreign), { code: 'META_TOKEN_INVALID' })
  await t.rejects(graph.inspectToken(app, 'garbage'), { code: 'META_TOKEN_INVALID' })
  await t.rejects(graph.inspectToken(app, meta.state.issueToken({ app_id: app.id, expires_in: -1 })), { code: 'META_TOKEN_INVALID' })
  await t.rejects(graph.inspectToken(wrongSecret, fine), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.assertPhoneNumber(wrongSecret, fine, waba.id, '1'), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.assertPhoneNumber(app, 'garbage', waba.id, '1'), { code: 'META_TOKEN_INVALID' })
  await t.rejects(graph.assertPhoneNumber(app, elsewhere, waba.id, '1'), { code: 'META_WABA_NOT_ACCESSIBLE' })
  await t.rejects(graph.assertPhoneNumber(app, fine, '404', '1'), { code: 'META_WABA_NOT_ACCESSIBLE' })
  await t.rejects(graph.assertPhoneNumber(app, fine, waba.id, '251'), { code: 'META_PHONE_NOT_IN_WABA' })
})

await test('the exchange is one POST whose URL carries nothing', async t => {
  const { meta, graph } = await standIn(t)
  const redirectUri = 'https://a.example/cb/?x=%7e a+b&y=é#_=_'
  const first = meta.state.issueCode({ app_id: app.id })
  const second = meta.state.issueCode({ app_id: app.id, redirect_uri: redirectUri })
  await graph.exchangeCode(app, { code: first })
  await graph.exchangeCode(app, { code: second, redirect_uri: redirectUri })
  const form = { client_id: app.id, client_secret: app.secret }
  t.strictSame(meta.requests.map(({ method, path, query, form }) => ({ method, path, query, form })), [
    { method: 'POST', path: '/v26.0/oauth/access_token', query: {}, form: { ...form, code: first } },
    { method: 'POST', path: '/v26.0/oauth/access_token', query: {}, form: { ...form, code: second, redirect_uri: redirectUri } }
  ])

  // A connection that was good before tempts HTTP clients to try again.
  meta.fail('access_token', faults.dropAfter)
  await t.rejects(graph.exchangeCode(app, { code: meta.state.issueCode({ app_id: app.id }) }), { code: 'META_UNAVAILABLE' })
  t.equal(meta.requests.length, 3)
})

await test('expiry: seconds become ISO 8601, never and absurd ones null', async t => {
  const { meta, graph } = await standIn(t)
  const exchanged = async (patch: object) => {
    meta.fail('access_token', { patch: { ...patch } })
    return (await graph.exchangeCode(app, { code: meta.state.issueCode({ app_id: app.id }) })).expires_at
  }
  const inspected = async (at: unknown) => {
    meta.fail('debug_token', { patch: { data: { expires_at: at } } })
    return (await graph.inspectToken(app, meta.state.issueToken({ app_id: app.id }))).expires_at
  }
  const at = await exchanged({})
  t.match(at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  t.ok(Math.abs(Date.parse(String(at)) - Date.now() - 5183944_000) < 10_000)
  for (const odd of [undefined, null, 0, 1e15, 1e300]) t.equal(await exchanged({ expires_in: odd }), null)
  t.equal(await inspected(4102444800), '2100-01-01T00:00:00.000Z')
  for (const none of [undefined, null]) t.equal(await inspected(none), undefined)
  for (const odd of [0, 1e15, 1e300]) t.equal(await inspected(odd), null)
})

await test('null where a value may be absent is no value', async t => {
  const { meta, waba, graph } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  const inspected = async (data: object) => {
    meta.fail('debug_token', { patch: { data: { ...data } } })
    return await graph.inspectToken(app, token)
  }
  t.match(await inspected({ error: null, data_access_expires_at: null, scopes: null }), { expires_at: String })
  await t.rejects(inspected({ is_valid: false, error: null }), { code: 'META_TOKEN_INVALID' })
  await t.rejects(inspected({ is_valid: false, error: { code: null, subcode: null } }), { code: 'META_TOKEN_INVALID' })
  await t.rejects(inspected({ app_id: null }), { code: 'META_TOKEN_INVALID' })
  await t.rejects(inspected({ is_valid: null }), { code: 'META_UNEXPECTED_REPLY' })

  // Of 250 numbers the first page holds 100: what says that there are more is taken away.
  for (const patch of [{ paging: null }, { paging: { next: null } }, { paging: { cursors: null, next: null } }, { paging: { cursors: { after: null }, next: null } }]) {
    meta.fail('phone_numbers', { patch })
    await t.rejects(graph.assertPhoneNumber(app, token, waba.id, '250'), { code: 'META_PHONE_NOT_IN_WABA' })
    meta.fail('phone_numbers', { patch })
    await graph.assertPhoneNumber(app, token, waba.id, '1')
  }
  for (const patch of [{ data: null }, { data: [null] }, { paging: { cursors: null } }, { paging: { cursors: { after: null } } }]) {
    meta.fail('phone_numbers', { patch })
    await t.rejects(graph.assertPhoneNumber(app, token, waba.id, '250'), { code: 'META_UNEXPECTED_REPLY' })
  }
})

await test('the phone number is looked for on all pages, each with its proof', async t => {
  const { meta, waba, graph, lines } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  meta.fail('phone_numbers', faults.extraFields)
  await graph.assertPhoneNumber(app, token, waba.id, '250')
  await graph.assertPhoneNumber(app, token, waba.id, '1')
  t.equal(meta.requests.length, 4)
  for (const { method, query, headers } of meta.requests) {
    t.match({ method, query, headers }, {
      method: 'GET',
      query: { limit: '100', appsecret_proof: proof(token), access_token: undefined },
      headers: { authorization: `Bearer ${token}` }
    })
  }
  t.same(lines, [])
})

await test('pages without end are not read to the end', async t => {
  let page = 0
  const another = (after: string) => json(200, { data: [{ id: '1' }], paging: { cursors: { after }, next: 'http://127.0.0.1:1/' } })
  const endless = await meta(t, (res) => { another(String(page++))(res) })
  await t.rejects(endless.graph.assertPhoneNumber(app, token, '1', '2'), { code: 'META_UNEXPECTED_REPLY' })
  t.equal(endless.urls.length, 50)

  const standing = await meta(t, another('x'))
  await t.rejects(standing.graph.assertPhoneNumber(app, token, '1', '2'), { code: 'META_UNEXPECTED_REPLY' })
  t.equal(standing.urls.length, 2, 'a page that leads to itself')

  const slow = await meta(t, (res) => { setTimeout(() => { another(String(page++))(res) }, 300) })
  await t.rejects(slow.graph.assertPhoneNumber(app, token, '1', '2'), { code: 'META_TIMEOUT' })
  t.ok(slow.urls.length <= 7, 'all pages together have the time of one call')
})

await test('an id is one step of the path, whatever it holds', async t => {
  const { graph, urls } = await meta(t, json(200, { data: [{ id: 'p' }] }))
  const ids = ['new/../id', '../../me', '?a=b', '#a', '%2e%2e', '...', 'é 1', '..\\']
  for (const id of ids) await graph.assertPhoneNumber(app, token, id, 'p')
  t.strictSame(urls.map(url => url?.split('?')[0]), ids.map(id => `/v26.0/${encodeURIComponent(id)}/phone_numbers`))
  for (const id of ['', '.', '..']) await t.rejects(graph.assertPhoneNumber(app, token, id, 'p'), { code: 'META_WABA_NOT_ACCESSIBLE' })
  t.equal(urls.length, ids.length)
})

await test('a token that no header can carry is not sent', async t => {
  const { graph, urls } = await meta(t, json(200, {}))
  for (const bad of ['', 'a b', 'é', 'a\r\nb']) {
    await t.rejects(graph.assertPhoneNumber(app, bad, '1', '2'), { code: 'META_TOKEN_INVALID' })
    await t.rejects(graph.inspectToken({ id: 'é', secret: bad }, token), { code: 'META_APP_REJECTED' })
  }
  t.equal(urls.length, 0)
})

await test('the log line names the call and what Meta says to look it up by', async t => {
  const { graph, lines } = await meta(t, refused(400, 190, 463))
  await t.rejects(graph.assertPhoneNumber(app, token, '1', '2'))
  t.match(lines, [{ call: 'phone_numbers', outcome: 'META_TOKEN_INVALID', status: 400, meta_code: 190, meta_subcode: 463, fbtrace_id: 'AbCdEfGhIjK', graph_version: 'v27.0' }])

  const bare = await meta(t, raw(502, '<html>', { 'x-fb-trace-id': 'FromTheHeader' }))
  await t.rejects(bare.graph.exchangeCode(app, { code }), { code: 'META_UNAVAILABLE' })
  t.match(bare.lines, [{ status: 502, fbtrace_id: 'FromTheHeader' }])

  const gone = await meta(t, drop)
  await new Promise(resolve => gone.server.close(resolve))
  await t.rejects(gone.graph.exchangeCode(app, { code }), { code: 'META_UNAVAILABLE' })
  t.match(gone.lines, [{ call: 'exchange_code', reason: 'ECONNREFUSED' }])
})

await test('a success is logged with the version that Meta served', async t => {
  const { graph, lines, successes } = await meta(t, json(200, { access_token: token }, { 'facebook-api-version': 'v21.0' }))
  await graph.exchangeCode(app, { code })
  t.strictSame(successes, [{ call: 'exchange_code', graph_version: 'v21.0' }])
  t.same(lines, [])
})

await test('the plugin takes its settings from fastify.env', async t => {
  const { meta } = await standIn(t)
  const fastify = Fastify()
  t.teardown(() => fastify.close())
  await fastify.register(env, {
    env: {
      NODE_ENV: 'test',
      DATABASE_URL: 'embedded',
      JWT_SECRET: 'x'.repeat(32),
      ENCRYPTION_KEYS: `k1:${Buffer.alloc(32, 1).toString('base64')}`,
      GRAPH_API_BASE_URL: `${meta.url}/`,
      GRAPH_API_VERSION: 'v25.0'
    }
  })
  await fastify.register(metaGraph)
  await fastify.metaGraph.exchangeCode(app, { code: meta.state.issueCode({ app_id: app.id }) })
  t.equal(meta.requests[0]?.path, '/v25.0/oauth/access_token')
})
