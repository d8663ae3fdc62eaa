import { createHmac } from 'node:crypto'
import t from '../../../run/tap.js'
import { startWithAccounts } from '../account.js'

const { state, call, app } = await startWithAccounts(t)

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
