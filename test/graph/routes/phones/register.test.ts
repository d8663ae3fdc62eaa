import t from '../../../run/tap.js'
import { startWithAccounts } from '../account.js'

const { call, bearer, account } = await startWithAccounts(t)

await t.test('register checks the PIN, and both routes share one rate limit', async t => {
  const { phone, register, deregister, fields } = account()
  const refusal = (code: number, status = 400) => ({
    status,
    body: { error: { code, message: `(#${code})`, error_data: { messaging_product: 'whatsapp', details: /\w/ } } }
  })
  for (const pin of [undefined, '12345', '1234567', 'abcdef', '']) {
    t.match(await register(pin), { ...refusal(100), body: { error: { error_subcode: 2388092 } } })
  }
  t.match(await register('123456', {}), { status: 400, body: { error: { code: 100 } } }, 'without messaging_product')
  t.match(await deregister(), refusal(133010))
  t.match(await register('123456'), { status: 200, body: { success: true } })
  t.match(phone, { pin: '123456', registered: true })
  t.match(await fields('status'), { status: 'CONNECTED' })
  t.match(await register('123456'), { status: 200, body: { success: true } }, 'again')
  t.match(await register('654321'), refusal(133005))
  t.match(await register('654321'), { body: { error: { message: '(#133005) Two step verification PIN Mismatch' } } })
  t.match(await deregister(), { status: 200, body: { success: true } })
  t.match(phone, { pin: '123456', registered: false })
  phone.verified = false
  t.match(await register('123456'), refusal(133006))
  phone.verified = true
  for (let i = phone.attempts.length; i < 10; i++) t.equal((await register(123456)).status, 200, 'a number in JSON')
  for (const attempt of [() => register('123456'), deregister]) t.match(await attempt(), refusal(133016))
  phone.attempts.fill(Math.floor(Date.now() / 1000) - 72 * 3600)
  t.equal((await register('123456')).status, 200, 'three days later')
  t.equal(
    (await call(`/v26.0/${phone.id}/register`, {}, {
      bearer,
      form: { messaging_product: 'whatsapp', pin: '123456' }
    })).status,
    200,
    'a form'
  )
  t.match(
    await call(`/v26.0/${phone.id}/register`, {}, { bearer, json: '{"pin' }),
    { status: 400, body: { error: { code: 100 } } },
    'a broken body'
  )
})

await t.test('a number of the WhatsApp Business app works without a registration, and refuses one', async t => {
  const { phone, register, deregister, fields } = account({ phones: [{ id: '4720', is_on_biz_app: true }] })
  const shown = { is_on_biz_app: true, platform_type: 'CLOUD_API', status: 'CONNECTED', id: '4720' }
  t.strictSame(await fields('is_on_biz_app,platform_type,status'), shown)
  const refusal = { status: 400, body: { error: { code: 100, error_subcode: undefined, message: /^\(#100\)/ } } }
  for (const attempt of [() => register('123456'), deregister]) t.match(await attempt(), refusal)
  t.match(phone, { pin: null, registered: true, attempts: [] })
  const message = { messaging_product: 'whatsapp', to: '1', text: { body: 'Hello' } }
  t.equal((await call('/v26.0/4720/messages', {}, { bearer, json: message })).status, 200)
  // The customer may leave the app; then it is a number like any other.
  phone.is_on_biz_app = false
  t.equal((await register('123456')).status, 200)
})

await t.test('the status of a number is by its registration, or as it was set', async t => {
  const { phone, fields } = account({ phones: [{ id: '4721', status: 'FLAGGED', registered: true }] })
  t.match(await fields('status'), { status: 'FLAGGED' })
  phone['status'] = 'RESTRICTED'
  t.match(await fields('status'), { status: 'RESTRICTED' })
  delete phone['status']
  t.match(await fields('status'), { status: 'CONNECTED' })
})
