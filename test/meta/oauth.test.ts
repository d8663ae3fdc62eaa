import t from '../run/tap.js'
import { graphErrorDetails } from '../../src/errors.js'
import { faults } from '../graph/faults.js'
import { app, standIn, thrownBy } from './wire.js'

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
  for (const odd of [undefined, null, 0, 1e15, 1e300, '0', -1, {}, '5e3', 'x']) {
    t.equal(await exchanged({ expires_in: odd }), null)
  }
  t.equal(await inspected(4102444800), '2100-01-01T00:00:00.000000Z')
  for (const none of [undefined, null, '2100-01-01', -1, {}]) t.equal(await inspected(none), undefined)
  for (const odd of [0, '0', 1e15, 1e300]) t.equal(await inspected(odd), null)
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
      scope('whatsapp_business_messaging', ['1', 7, null, '', {}, '3']),
      scope('whatsapp_business_manage_events', ['4']),
      scope('business_management', ['a business']),
      scope('whatsapp_business_management'),
      scope('whatsapp_business_management', 'no list'),
      scope(null, ['5']),
      null
    ],
    scopes: ['a', 1, 'b'],
    type: 'SOMETHING_NEW'
  }), { type: 'SOMETHING_NEW', scopes: ['a', 'b'], waba_ids: ['2', '1', '7', '3', '4'] })
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
