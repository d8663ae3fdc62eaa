import t from '../../../run/tap.js'
import { startWithAccounts } from '../account.js'

const { graph, state, call, app, stranger } = await startWithAccounts(t)
const ours = { client_id: app.app_id, client_secret: app.app_secret }

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
