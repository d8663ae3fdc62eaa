import t from '../../run/tap.js'
import { startWithAccounts } from './account.js'

const { state, call, app, bearer, stranger } = await startWithAccounts(t)
const path = `/v26.0/${app.app_id}`
const appToken = `${app.app_id}|${app.app_secret}`

await t.test('an app is shown to its own tokens', async t => {
  for (const text of [appToken, app.app_token, bearer]) {
    t.match(await call(path, {}, { bearer: text }), { status: 200, body: { id: app.app_id, name: 'Stand-in' } })
  }
  for (const [text, status, code] of [
    [stranger, 400, 100], [`${app.app_id}|wrong`, 401, 190], ['1|wrong', 401, 101]
  ] as const) {
    t.match(await call(path, {}, { bearer: text }), { status, body: { error: { code } } })
  }
})

await t.test('the webhooks of an app are listed for the token of the app alone', async t => {
  const subscriptions = (text: string) => call(`${path}/subscriptions`, {}, { bearer: text })
  const subscription = {
    object: 'whatsapp_business_account',
    callback_url: app.callback_url,
    active: true,
    fields: [{ name: 'messages', version: 'v26.0' }, { name: 'account_update', version: 'v26.0' }]
  }
  t.strictSame((await subscriptions(appToken)).body, { data: [subscription] })
  Object.assign(state.app(app.app_id), { webhook_active: false, webhook_fields: [] })
  t.strictSame((await subscriptions(appToken)).body, { data: [{ ...subscription, active: false, fields: [] }] })
  for (const [text, code] of [[bearer, 15], [stranger, 100]] as const) {
    t.match(await subscriptions(text), { status: 400, body: { error: { code } } })
  }
  state.addApp({ app_id: app.app_id, app_secret: app.app_secret, callback_url: null })
  t.strictSame((await subscriptions(appToken)).body, { data: [] })
})
