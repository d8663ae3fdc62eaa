import { connect } from 'node:net'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import t from '../run/tap.js'
import closing from '../../src/closing.js'
import env from '../../src/settings/env.js'
import { createVault } from '../../src/vault/vault.js'
import metaGraph, { type MetaGraph } from '../../src/meta/meta-graph.js'
import { graphErrorDetails } from '../../src/errors.js'
import { faults } from '../graph/faults.js'
import { app, calls, client, code, drop, json, meta, pin, raw, refused, standIn, thrownBy, token } from './wire.js'

/** The cause that Node reports when a host has several addresses and none accepts a connection. */
const causeOfConnecting = (port: number) => new Promise<unknown>((resolve) => {
  const addresses = [{ address: '127.0.0.1', family: 4 }, { address: '127.0.0.2', family: 4 }]
  connect({
    host: 'several.example',
    port,
    autoSelectFamily: true,
    lookup: (_host, _options, found) => { found(null, addresses) }
  }).on('error', resolve)
})

await t.test('each refusal of the stand-in maps to its error', async t => {
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
  await t.rejects(
    graph.exchangeCode(app, { code: issue({ redirect_uri: redirectUri }) }),
    { code: 'META_REDIRECT_MISMATCH' }
  )
  await t.rejects(
    graph.exchangeCode(app, { code: issue({ redirect_uri: redirectUri }), redirect_uri: `${redirectUri}/` }),
    { code: 'META_REDIRECT_MISMATCH' }
  )
  await t.rejects(graph.exchangeCode(wrongSecret, { code: issue() }), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.exchangeCode({ ...app, id: '1' }, { code: issue() }), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.inspectToken(app, foreign), { code: 'META_TOKEN_INVALID' })
  await t.rejects(graph.inspectToken(app, 'garbage'), { code: 'META_TOKEN_INVALID' })
  await t.rejects(
    graph.inspectToken(app, meta.state.issueToken({ app_id: app.id, expires_in: -1 })),
    { code: 'META_TOKEN_INVALID' }
  )
  await t.rejects(graph.inspectToken(wrongSecret, fine), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.extendToken(app, 'garbage', { sixtyDays: true }), { code: 'META_TOKEN_INVALID' })
  await t.rejects(
    graph.extendToken(app, meta.state.issueToken({ app_id: app.id, expires_in: -1 }), { sixtyDays: false }),
    { code: 'META_TOKEN_INVALID' }
  )
  await t.rejects(graph.extendToken(wrongSecret, fine, { sixtyDays: false }), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.listPhoneNumbers(wrongSecret, fine, waba.id), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.listPhoneNumbers(app, 'garbage', waba.id), { code: 'META_TOKEN_INVALID' })
  await t.rejects(graph.listPhoneNumbers(app, elsewhere, waba.id), { code: 'META_WABA_NOT_ACCESSIBLE' })
  await t.rejects(graph.listPhoneNumbers(app, fine, '404'), { code: 'META_WABA_NOT_ACCESSIBLE' })
  await t.rejects(graph.registerNumber(app, elsewhere, '1', pin), { code: 'META_PHONE_NOT_IN_WABA' })
})

await t.test('the exchange is one POST with nothing in its URL', async t => {
  const { meta, graph } = await standIn(t)
  const redirectUri = 'https://a.example/cb/?x=%7e a+b&y=é#_=_'
  const first = meta.state.issueCode({ app_id: app.id })
  const second = meta.state.issueCode({ app_id: app.id, redirect_uri: redirectUri })
  await graph.exchangeCode(app, { code: first })
  await graph.exchangeCode(app, { code: second, redirect_uri: redirectUri })
  const form = { client_id: app.id, client_secret: app.secret }
  t.strictSame(meta.requests.map(({ method, path, query, form }) => ({ method, path, query, form })), [
    { method: 'POST', path: '/v26.0/oauth/access_token', query: {}, form: { ...form, code: first } },
    {
      method: 'POST',
      path: '/v26.0/oauth/access_token',
      query: {},
      form: { ...form, code: second, redirect_uri: redirectUri }
    }
  ])

  // HTTP clients tend to retry on a connection that worked before.
  meta.fail('access_token', faults.dropAfter)
  const err = await thrownBy(graph.exchangeCode(app, { code: meta.state.issueCode({ app_id: app.id }) }))
  t.match(err, { code: 'META_EXCHANGE_UNKNOWN' })
  t.match(graphErrorDetails(err), { sent: true })
  t.equal(meta.requests.length, 3)
})

await t.test('expiry in seconds becomes ISO 8601; never and absurd values become null', async t => {
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
  t.match(at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/)
  t.ok(Math.abs(Date.parse(String(at)) - Date.now() - 5183944_000) < 10_000)
  for (const odd of [undefined, null, 0, 1e15, 1e300]) t.equal(await exchanged({ expires_in: odd }), null)
  t.equal(await inspected(4102444800), '2100-01-01T00:00:00.000000Z')
  for (const none of [undefined, null]) t.equal(await inspected(none), undefined)
  for (const odd of [0, 1e15, 1e300]) t.equal(await inspected(odd), null)
})

await t.test('null for an optional value of debug_token counts as absent', async t => {
  const { meta, graph } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  const inspected = async (data: object) => {
    meta.fail('debug_token', { patch: { data: { ...data } } })
    return await graph.inspectToken(app, token)
  }
  t.match(await inspected({ error: null, data_access_expires_at: null, scopes: null }), { expires_at: String })
  await t.rejects(inspected({ is_valid: false, error: null }), { code: 'META_TOKEN_INVALID' })
  await t.rejects(inspected({ is_valid: false, error: { code: null, subcode: null } }), { code: 'META_TOKEN_INVALID' })
  await t.rejects(inspected({ app_id: null }), { code: 'META_UNEXPECTED_REPLY' }, 'a valid token of no app')
  await t.rejects(inspected({ is_valid: null }), { code: 'META_UNEXPECTED_REPLY' })
})

await t.test('the grants of a token are its readable scopes and WABA ids', async t => {
  const { meta, graph } = await standIn(t)
  const granted = async (data: object) => {
    meta.fail('debug_token', { patch: { data: { ...data } } })
    const { type, scopes, waba_ids } = await graph.inspectToken(app, meta.state.issueToken({ app_id: app.id }))
    return { type, scopes, waba_ids }
  }
  const scope = (scope: unknown, target_ids?: unknown) => ({ scope, target_ids })
  t.strictSame(await granted({
    granular_scopes: [
      scope('whatsapp_business_management', ['2', '1']),
      scope('whatsapp_business_messaging', ['1', 7, null, '3']),
      scope('whatsapp_business_manage_events', ['4']),
      scope('business_management', ['a business']),
      scope('whatsapp_business_management'),
      scope('whatsapp_business_management', 'no list'),
      scope(null, ['5']),
      null
    ],
    scopes: ['a', 1, 'b'],
    type: 'SOMETHING_NEW'
  }), { type: 'SOMETHING_NEW', scopes: ['a', 'b'], waba_ids: ['2', '1', '3', '4'] })
  for (const none of [undefined, null, 'x', { a: 1 }]) {
    t.strictSame(
      await granted({ granular_scopes: none, scopes: none, type: {} }),
      { type: null, scopes: [], waba_ids: [] }
    )
  }
})

await t.test('a token is extended by a POST with nothing in its URL', async t => {
  const { meta, graph } = await standIn(t)
  const old = meta.state.issueToken({ app_id: app.id, expires_in: 3600 })
  const forEver = meta.state.issueToken({ app_id: app.id, expires_in: 0 })
  const extended = await graph.extendToken(app, old, { sixtyDays: true })
  t.not(extended.access_token, old)
  t.ok(Math.abs(Date.parse(String(extended.expires_at)) - Date.now() - 5183944_000) < 10_000)
  t.match(await graph.extendToken(app, forEver, { sixtyDays: false }), { access_token: /^EAA/, expires_at: null })
  const form = { client_id: app.id, client_secret: app.secret, grant_type: 'fb_exchange_token' }
  t.strictSame(meta.requests.map(({ route, method, path, query, form }) => ({ route, method, path, query, form })), [
    {
      route: 'extend',
      method: 'POST',
      path: '/v26.0/oauth/access_token',
      query: {},
      form: { ...form, fb_exchange_token: old, set_token_expires_in_60_days: 'true' }
    },
    {
      route: 'extend',
      method: 'POST',
      path: '/v26.0/oauth/access_token',
      query: {},
      form: { ...form, fb_exchange_token: forEver }
    }
  ])
})

await t.test('only a request that never reached Meta counts as not sent', async t => {
  const gone = await meta(t, drop)
  await new Promise(resolve => gone.server.close(resolve))
  const never = async (graph: MetaGraph, label: string) => {
    for (const call of [calls.access_token, calls.subscribe]) {
      const err = await thrownBy(call(graph))
      t.match(err, { code: 'META_UNAVAILABLE' }, label)
      t.strictSame(
        graphErrorDetails(err),
        { sent: false, meta_code: null, meta_subcode: null, fbtrace_id: null },
        label
      )
    }
  }
  await never(gone.graph, 'refused')
  await never(client('http://no-such-host.invalid').graph, 'not found')

  const port = Number(new URL(gone.url).port)
  const failing = (cause: unknown) => client(
    gone.url,
    { fetch: () => Promise.reject(new TypeError('fetch failed', { cause })) }
  ).graph
  const everyAddress = await causeOfConnecting(port)
  t.type(everyAddress, AggregateError)
  await never(failing(everyAddress), 'each address refused')
  await never(failing(Object.assign(new Error(), { code: 'UND_ERR_CONNECT_TIMEOUT' })), 'no connection in time')
  await never(failing(Object.assign(new Error(), { code: 'EHOSTUNREACH', syscall: 'connect' })), 'unreachable')

  const perhaps = async (graph: MetaGraph, label: string) => {
    const err = await thrownBy(calls.access_token(graph))
    t.match(err, { code: 'META_EXCHANGE_UNKNOWN' }, label)
    t.match(graphErrorDetails(err), { sent: true }, label)
  }
  const plain = await meta(t, drop)
  await perhaps(client(plain.url.replace('http:', 'https:')).graph, 'TLS')
  for (const cause of [
    Object.assign(new Error(), { code: 'ECONNRESET', syscall: 'read' }),
    Object.assign(new Error(), { code: 'EHOSTUNREACH', syscall: 'read' }),
    Object.assign(new Error(), { code: 'CERT_HAS_EXPIRED' }),
    new AggregateError([Object.assign(new Error(), { syscall: 'connect' }), new Error('something else')]),
    new Error('bad port'),
    'no error at all',
    undefined
  ]) await perhaps(failing(cause), String(cause))
  await perhaps(client(gone.url, { fetch: () => Promise.reject(new Error('x')) }).graph, 'any error')

  for (const odd of [undefined, null, 'x', new Error('x'), {}]) t.equal(graphErrorDetails(odd), null)
})

await t.test('a token that no header can carry is not sent', async t => {
  const { graph, urls } = await meta(t, json(200, {}))
  for (const bad of ['', 'a b', 'é', 'a\r\nb']) {
    await t.rejects(graph.inspectToken({ id: 'é', secret: bad }, token), { code: 'META_APP_REJECTED' })
    const err = await thrownBy(graph.listPhoneNumbers(app, bad, '1'))
    t.match(err, { code: 'META_TOKEN_INVALID' })
    t.match(graphErrorDetails(err), { sent: false })
  }
  t.equal(urls.length, 0)
})

await t.test('the log line of a failure contains the call and the identifiers of Meta\'s reply', async t => {
  const { graph, lines } = await meta(t, refused(400, 190, 463))
  await t.rejects(graph.listPhoneNumbers(app, token, '1'))
  t.match(
    lines,
    [
      {
        call: 'phone_numbers',
        outcome: 'META_TOKEN_INVALID',
        status: 400,
        meta_code: 190,
        meta_subcode: 463,
        fbtrace_id: 'AbCdEfGhIjK',
        graph_version: 'v27.0'
      }
    ]
  )

  const bare = await meta(t, raw(502, '<html>', { 'x-fb-trace-id': 'FromTheHeader' }))
  await t.rejects(bare.graph.exchangeCode(app, { code }), { code: 'META_EXCHANGE_UNKNOWN' })
  t.match(bare.lines, [{ status: 502, fbtrace_id: 'FromTheHeader' }])

  const gone = await meta(t, drop)
  await new Promise(resolve => gone.server.close(resolve))
  await t.rejects(gone.graph.exchangeCode(app, { code }), { code: 'META_UNAVAILABLE' })
  t.match(gone.lines, [{ call: 'exchange_code', reason: 'ECONNREFUSED' }])
})

await t.test('the log line of a success contains the version that Meta served', async t => {
  const { graph, lines, successes } = await meta(
    t,
    json(200, { access_token: token }, { 'facebook-api-version': 'v21.0' })
  )
  await graph.exchangeCode(app, { code })
  t.strictSame(successes, [{ call: 'exchange_code', graph_version: 'v21.0' }])
  t.same(lines, [])
})

await t.test('the plugin reads its settings from fastify.env', async t => {
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
  await fastify.register(closing)
  await fastify.register(
    fp(
      async (fastify) => { fastify.decorate('vault', createVault({ keyRing: fastify.env.ENCRYPTION_KEYS })) },
      { name: 'vault' }
    )
  )
  await fastify.register(metaGraph)
  await fastify.metaGraph.exchangeCode(app, { code: meta.state.issueCode({ app_id: app.id }) })
  t.equal(meta.requests[0]?.path, '/v25.0/oauth/access_token')
})
