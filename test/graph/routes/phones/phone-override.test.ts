import t from '../../../run/tap.js'
import { startCallback } from '../../webhooks/callback-server.js'
import { startWithAccounts } from '../account.js'

const { graph, app, bearer, call, account } = await startWithAccounts(t)

await t.test('a phone number has its own callback and PIN', async t => {
  const queries: Array<Record<string, string>> = []
  const url = await startCallback(t, (query, res) => {
    queries.push(Object.fromEntries(query))
    res.end(query.get('hub.verify_token') === 'ü &=?' ? query.get('hub.challenge') : '')
  })
  const { phone, waba, subscribe, changePhone, fields } = account()
  const set = (override_callback_uri: unknown, verify_token?: unknown) => changePhone(
    { webhook_configuration: { override_callback_uri, verify_token } }
  )
  const refusal = (code: number, message: string | RegExp) => ({
    status: 400,
    body: { error: { type: 'OAuthException', code, message } }
  })
  t.match(await set(url, 'ü &=?'), refusal(100, '(#100) Before override the current callback uri'))
  await subscribe()
  t.match(await set(url, 'ü &=?'), { status: 200, body: { success: true } })
  t.equal(graph.requests.at(-1)?.route, 'phone_override')
  t.strictSame(
    JSON.parse(graph.requests.at(-1)?.form['webhook_configuration'] ?? ''),
    { override_callback_uri: url, verify_token: 'ü &=?' },
    'JSON within is recorded as text'
  )
  t.match(queries, [{ tenant: '1', 'hub.mode': 'subscribe', 'hub.challenge': /^\d+$/, 'hub.verify_token': 'ü &=?' }])
  t.strictSame((await fields('webhook_configuration')).webhook_configuration, {
    phone_number: url,
    application: app.callback_url
  })
  t.strictSame(waba.subscriptions.get(app.app_id), {}, 'the WABA has none')

  t.match(await set(url, 'x'), refusal(2200, 'Response does not match challenge'))
  t.match(await set('http://a.example/', 'x'), refusal(100, '(#100) Param override_callback_uri'))
  t.match(await set(`https://a.example/${'x'.repeat(183)}`, 'x'), refusal(100, '200 characters'))
  t.match(await set(url), refusal(100, 'verify_token is required'))
  for (const odd of [null, {}, { override_callback_uri: 1 }, 'x', []]) {
    t.match(await changePhone({ webhook_configuration: odd }), refusal(100, '(#100) Param webhook_configuration'))
  }
  t.strictSame(phone.override, { url, verify_token: 'ü &=?' }, 'what is refused changes nothing')
  for (let i = 0; i < 2; i++) t.match(await set(''), { status: 200, body: { success: true } })
  t.strictSame(
    (await fields('webhook_configuration')).webhook_configuration,
    { application: app.callback_url },
    'an empty one takes it away'
  )
  t.equal(
    (await call(`/v26.0/${phone.id}`, {}, {
      bearer,
      form: { webhook_configuration: JSON.stringify({ override_callback_uri: url, verify_token: 'ü &=?' }) }
    })).status,
    200,
    'a form'
  )

  t.match(await changePhone({ pin: '246810' }), { status: 200, body: { success: true } })
  t.match(phone, { pin: '246810', attempts: [], override: { url } })
  t.match(await changePhone({ pin: '2468' }), refusal(100, '(#100)'))
  t.match(await changePhone({ future: 1 }), refusal(2500, 'An active access token'))
})
