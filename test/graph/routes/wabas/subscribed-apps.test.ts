import t from '../../../run/tap.js'
import { startCallback } from '../../webhooks/callback-server.js'
import { startWithAccounts } from '../account.js'

const { graph, app, account } = await startWithAccounts(t)

await t.test('subscribed_apps: an app subscribes, sets and clears an override, and unsubscribes', async t => {
  const queries: Array<Record<string, string>> = []
  const url = await startCallback(t, (query, res) => {
    queries.push(Object.fromEntries(query))
    res.end(query.get('hub.challenge'))
  })
  const { waba, subscribe, subscribeJson, subscribed, unsubscribe } = account()
  const mine = {
    whatsapp_business_api_data: {
      id: app.app_id,
      name: 'Stand-in',
      link: `https://www.facebook.com/games/?app_id=${app.app_id}`
    }
  }
  t.strictSame((await subscribed()).body, { data: [] })
  for (let i = 0; i < 2; i++) t.match(await subscribe(), { status: 200, body: { success: true } })
  waba.subscriptions.set('1', {})
  t.match((await subscribed()).body, { data: [mine, { whatsapp_business_api_data: { id: '1' } }] }, 'all the apps')

  const wanted = { override_callback_uri: url, verify_token: 'ü &=?' }
  for (const send of [subscribe, subscribeJson]) {
    t.match(await send(wanted), { status: 200, body: { success: true } })
    t.strictSame((await subscribed()).body.data[0], { ...mine, override_callback_uri: url })
    t.match(queries.pop(), {
      tenant: '1',
      'hub.mode': 'subscribe',
      'hub.challenge': /^\d+$/,
      'hub.verify_token': 'ü &=?'
    })
    t.strictSame(waba.subscriptions.get(app.app_id), { override: { url, verify_token: 'ü &=?' } })
    t.equal((await subscribe()).status, 200)
    t.strictSame((await subscribed()).body.data[0], mine, 'an empty POST clears it')
  }
  t.match(await unsubscribe(), { status: 200, body: { success: true } })
  t.match((await subscribed()).body, { data: [{ whatsapp_business_api_data: { id: '1' } }] })
  t.same([
    ...new Set(graph.requests.map(({ route }) => route))
  ], ['subscriptions', 'subscribe', 'override', 'unsubscribe'])
  t.match(graph.requests.findLast(({ route }) => route === 'override')?.form, wanted, 'JSON is recorded as a form is')
})
