import t from '../run/tap.js'
import { app as platform } from '../meta/wire.js'
import { config } from '../routes/client.js'
import { PLATFORM_CALLBACK, TENANT_CALLBACK, verificationService, verifyUrl } from './verification-service.js'

const { app, as, call, meta, issue, asked, tenant, stored, verified } = await verificationService(t)

await t.test('a dry run checks the body and stores nothing', async (t) => {
  const { id, who, waba, access_token } = await tenant({ callback_url: TENANT_CALLBACK }, { override: TENANT_CALLBACK })
  const { body: shown } = await call(who, 'GET', config)
  const expired = issue({ expires_in: -1 })
  const other = meta.state.addWaba({ app_ids: [platform.id], subscriptions: { [platform.id]: {} } })
  const own = meta.state.addApp()
  waba.app_ids.push(own.app_id)
  const before = await stored()
  const transitions: unknown[] = []
  t.teardown(app.events.onEvent((transition) => { transitions.push(transition) }))
  for (const [body, failed] of [
    [{ access_token }, []],
    [{ access_token: issue() }, []],
    [
      {
        verify_token: 'does not count',
        redirect_url: null,
        refresh_token: 'r',
        token_expires_at: '2020-01-01T00:00:00Z'
      },
      []
    ],
    [{ access_token: expired }, ['token', 'assets', 'subscription', 'callback']],
    [{ access_token: null }, ['token', 'assets', 'subscription', 'callback']],
    [{ access_token: 'x'.repeat(4096) }, ['token', 'assets', 'subscription', 'callback']],
    [{ waba_id: null }, ['assets', 'subscription', 'callback']],
    [{ waba_id: '...' }, ['assets', 'subscription', 'callback']],
    [{ waba_id: other.id }, ['assets', 'callback']],
    [{ waba_id: other.id, phone_number_id: String(other.phones[0]?.id) }, ['callback']],
    [{ waba_id: other.id, phone_number_id: String(other.phones[0]?.id), callback_url: null }, []],
    [{ phone_number_id: null }, []],
    [{ callback_url: PLATFORM_CALLBACK }, ['callback']],
    [{ fb_app_id: own.app_id, fb_app_secret: own.app_secret }, ['token', 'assets', 'subscription', 'callback']],
    [
      { fb_app_id: own.app_id, fb_app_secret: own.app_secret, access_token: issue({ app_id: own.app_id }) },
      ['subscription', 'callback']
    ],
    [{ fb_app_id: own.app_id }, []]
  ] as Array<[object, string[]]>) {
    const answer = await verified(t, who, failed, body)
    t.strictSame(answer.body['config'], shown)
  }
  for (const secret of ['access_token', 'fb_app_secret', 'verify_token', 'refresh_token']) {
    meta.requests.length = 0
    t.equal((await call(who, 'POST', verifyUrl, { [secret]: '****0001' })).is, '400 MASKED_VALUE', secret)
    t.strictSame(asked(), [])
  }
  for (const [body, field] of [
    [{ waba_id: '.' }, 'waba_id'], [{ phone_number_id: '..' }, 'phone_number_id'],
    [{ access_token: 'x'.repeat(4097) }, 'access_token'], [{ access_token: 'a\nb' }, 'access_token'],
    [{ access_token: 1 }, 'access_token'], [{ code: 'x' }, 'code'], [{ tenant_id: 'other' }, 'tenant_id'],
    [{ callback_url: 'ftp://a.example' }, 'callback_url']
  ] as Array<[object, string]>) {
    const { is, body: { errors } } = await call(who, 'POST', verifyUrl, body)
    t.equal(is, '400 VALIDATION_FAILED')
    t.match(errors, [{ field, message: /^(must |is not a field)/ }])
    t.equal(
      JSON.stringify(errors).split('field').length - (JSON.stringify(errors).includes('is not a field') ? 1 : 0),
      2,
      'one error'
    )
  }
  for (const body of ['[]', '1', '"x"', 'true']) {
    t.equal(
      (await call(who, 'POST', verifyUrl, body, { 'content-type': 'application/json' })).is,
      '400 VALIDATION_FAILED',
      body
    )
  }
  t.same(await stored(), before)
  t.same(transitions, [])
  t.match(await app.tokenWatch.healthOf(id), { token_status: 'unverified' })
})

await t.test('a dry run works without a configuration', async (t) => {
  const { waba, phone_number_id, access_token } = await tenant()
  const before = await stored()
  const { body } = await verified(t, as('newcomer'), [], { waba_id: waba.id, phone_number_id, access_token })
  t.equal(body['config'], null)
  t.equal(
    (await verified(
      t,
      as('newcomer'),
      ['token', 'assets', 'subscription', 'callback'],
      { waba_id: waba.id }
    )).body['config'],
    null
  )
  t.same(await stored(), before)
})
