import t from '../../../run/tap.js'
import { startWithClient } from '../../http/client.js'

const { state, call } = await startWithClient(t)
const app = state.addApp()
const other = state.addApp()
const waba = state.addWaba({ app_ids: [app.app_id] })

await t.test('debug_token', async t => {
  const input = state.issueToken({ app_id: app.app_id, waba_ids: [waba.id] })
  const debug = (token: string, access: string) => call('/v26.0/debug_token', {
    input_token: token,
    access_token: access
  })

  await t.test('tokens of the same app may ask', async t => {
    for (const access of [app.app_token, `${app.app_id}|${app.app_secret}`, input]) {
      t.equal((await debug(input, access)).body.data.is_valid, true)
      t.equal((await call('/v26.0/debug_token', { input_token: input }, { bearer: access })).status, 200)
    }
    for (const [access, code] of [[`${app.app_id}|wrong`, 190], ['1|wrong', 101], ['garbage', 190]] as const) {
      const { status, body } = await debug(input, access)
      t.match({ status, code: body.error.code }, { status: 400, code })
    }
    t.match((await debug(input, other.app_token)), {
      status: 400,
      body: { error: { code: 100, message: '(#100) The App_id in the input_token did not match the Viewing App' } }
    })
    t.match((await debug('', app.app_token)), { status: 400, body: { error: { code: 100 } } })
  })

  await t.test('a valid token is described', async t => {
    const before = Math.floor(Date.now() / 1000)
    const { data } = (await debug(input, app.app_token)).body
    t.match(data, {
      app_id: app.app_id,
      type: 'SYSTEM_USER',
      is_valid: true,
      data_access_expires_at: 0,
      user_id: /^\d+$/
    })
    t.ok(Math.abs(data.expires_at - before - 5183944) < 5)
    t.strictSame(data.scopes, ['whatsapp_business_management', 'whatsapp_business_messaging', 'public_profile'])
    t.strictSame(data.granular_scopes, [
      { scope: 'whatsapp_business_management', target_ids: [waba.id] },
      { scope: 'whatsapp_business_messaging', target_ids: [waba.id] }
    ])
    const byHand = (await debug(state.issueToken({ app_id: app.app_id, expires_in: 0 }), app.app_token)).body.data
    t.equal(byHand.expires_at, 0)
    t.strictSame(byHand.granular_scopes[0], { scope: 'whatsapp_business_management' })
    t.match((await debug(app.app_token, app.app_token)).body.data, { type: 'APP', is_valid: true })
  })

  await t.test('an invalid input token is answered with is_valid: false', async t => {
    const revoked = state.issueToken({ app_id: app.app_id })
    const token = state.tokens.get(revoked)
    if (token) token.revoked = 458
    for (const [bad, subcode] of [
      [state.issueToken({ app_id: app.app_id, expires_in: -1 }), 463],
      [revoked, 458],
      ['garbage', undefined]
    ] as const) {
      const { status, body } = await debug(bad, app.app_token)
      t.equal(status, 200)
      t.equal(body.data.is_valid, false)
      t.equal(body.data.error.code, 190)
      t.equal(body.data.error.subcode, subcode)
      t.equal('app_id' in body.data, subcode !== undefined)
    }
  })
})
