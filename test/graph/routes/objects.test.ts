import t from '../../run/tap.js'
import { startWithAccounts } from './account.js'

const { state, call, app, bearer, stranger, account } = await startWithAccounts(t)
const gone = (id: string, method: string) => ({
  status: 400,
  body: {
    error: {
      code: 100,
      error_subcode: 33,
      type: 'GraphMethodException',
      message: `Unsupported ${method} request. Object with ID '${id}' does not exist`
    }
  }
})

await t.test('an object without access is answered as if it did not exist', async t => {
  const { waba, phone } = account()
  for (const [path, method] of [
    [waba.id, 'GET'],
    [phone.id, 'GET'],
    ['1', 'GET'],
    [`${waba.id}/subscribed_apps`, 'GET'],
    [`${waba.id}/subscribed_apps`, 'POST'],
    [`${waba.id}/subscribed_apps`, 'DELETE'],
    [`${phone.id}/register`, 'POST'],
    [`${phone.id}/deregister`, 'POST'],
    [`${phone.id}/messages`, 'POST']
  ] as const) {
    t.match(
      await call(`/v26.0/${path}`, {}, { bearer: stranger, method }),
      gone(path.split('/')[0] ?? '', method.toLowerCase()),
      `${method} ${path}`
    )
    t.match(await call(`/v26.0/${path}`, {}, { bearer: 'x', method }), { status: 401, body: { error: { code: 190 } } })
  }
  t.match(await call(`/v26.0/${phone.id}`, {}, { bearer: stranger, json: { pin: '123456' } }), gone(phone.id, 'post'))
  t.strictSame([waba.subscriptions.size, phone.pin], [0, null])
  const mute = state.issueToken({ app_id: app.app_id, scopes: [] })
  for (const path of [waba.id, phone.id]) {
    t.match(await call(`/v26.0/${path}`, {}, { bearer: mute }), { status: 403, body: { error: { code: 200 } } })
  }
})

await t.test('a WABA and a phone number show the requested fields', async t => {
  const { waba, phone, fields } = account({
    name: 'Acme',
    country: 'DE',
    phones: [{ id: '4711', verified: false, pin: '123456', quality_rating: 'PURPLE' }]
  })
  t.strictSame((await call(`/v26.0/${waba.id}`, {}, { bearer })).body, { id: waba.id, name: 'Acme' })
  t.strictSame(
    (await call(`/v26.0/${waba.id}`, { fields: 'country,status,app_ids,phones,subscriptions' }, { bearer })).body,
    { country: 'DE', id: waba.id }
  )
  t.match((await call('/v26.0/4711', {}, { bearer })).body, {
    id: '4711',
    verified_name: 'Lucky Shrub',
    quality_rating: 'PURPLE',
    code_verification_status: 'NOT_VERIFIED'
  })
  t.strictSame(await fields('status,pin,registered,verified,attempts,override'), { status: 'PENDING', id: '4711' })

  const application = app.callback_url
  t.strictSame((await fields('webhook_configuration')).webhook_configuration, { application })
  waba.subscriptions.set(app.app_id, { override: { url: 'https://waba.example/', verify_token: 'v' } })
  phone.override = { url: 'https://phone.example/', verify_token: 'v' }
  t.strictSame((await fields('webhook_configuration')).webhook_configuration,
    { phone_number: 'https://phone.example/', whatsapp_business_account: 'https://waba.example/', application })
})
