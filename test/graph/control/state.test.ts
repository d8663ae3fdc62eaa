import { createHmac } from 'node:crypto'
import t from '../../run/tap.js'
import { APP, done, ours, startWithControl } from './start-control.js'

const { raw, control, debug } = await startWithControl(t)

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
    businesses: [{ id: '107', owned_waba_ids: ['102'] }],
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
    businesses: [{ id: '107', owned_waba_ids: ['102'], client_waba_ids: [] }],
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
