import t from '../../run/tap.js'
import { registerRefused } from '../../graph/errors.js'
import { onboardingService, PIN, stepIn } from '../onboarding-service.js'

const service = await onboardingService(t)
const { meta, post, resume, record, login, issue, newTenant, newWaba, asked } = service

await t.test('a number that the WhatsApp Business app uses is never registered', async (t) => {
  const evidence = { reason: 'on_business_app', is_on_biz_app: true }
  for (const pin of [undefined, PIN]) {
    const account = newWaba([{ is_on_biz_app: true, platform_type: 'NOT_APPLICABLE' }])
    const tenant = newTenant()
    t.equal((await post(tenant, { code: issue(), waba_id: account.id, pin })).is, '201')
    t.match(stepIn(await record(tenant), 'register'), { status: 'skipped', evidence, error: null })
    t.equal((await resume(tenant, { pin: PIN })).is, '200')
    t.match(stepIn(await record(tenant), 'register'), { status: 'skipped', evidence })
    t.match(await service.sql('select * from phone_numbers where tenant_id = $1', [tenant]), [{
      phone_number_id: account.phones[0]?.id,
      is_on_biz_app: true,
      platform_type: 'NOT_APPLICABLE',
      verified_name: null,
      display_phone_number: account.phones[0]?.['display_phone_number'],
      quality_rating: 'GREEN',
      status: 'CONNECTED',
      number_status: 'ok',
      reported: null
    }])
  }
  t.same(asked('register'), [])
})

await t.test('a number is not registered either when a former version recorded nothing about it', async (t) => {
  for (const isOn of [true, false]) {
    const account = newWaba([{ is_on_biz_app: isOn }])
    const tenant = newTenant()
    t.equal((await post(tenant, { code: issue(), waba_id: account.id })).is, '201')
    await service.sql(
      "update onboardings set steps = steps #- '{2,evidence,number}' where tenant_id = $1",
      [tenant]
    )
    meta.requests.length = 0
    t.equal((await resume(tenant, { pin: PIN })).is, '200')
    t.same(asked().map(({ route }) => route),
      isOn ? ['phone_numbers', 'debug_token'] : ['phone_numbers', 'register', 'debug_token'])
    t.match(stepIn(await record(tenant), 'register').status, isOn ? 'skipped' : 'done')
  }
})

await t.test('an onboarding that a former version began stores no facts of its number', async (t) => {
  const former = newTenant()
  meta.fail('phone_numbers', { drop: true })
  t.equal((await post(former, login(former))).is, '503 META_UNAVAILABLE')
  await service.sql(`update onboardings set waba_id = $2, phone_number_id = $3,
    steps = jsonb_set(jsonb_set(steps, '{2,status}', '"done"'), '{2,evidence}', '{}') where tenant_id = $1`,
  [former, service.waba.id, String(former.match(/\d+/))])
  t.equal((await resume(former)).is, '200')
  t.same(await service.sql('select from phone_numbers where tenant_id = $1', [former]), [])
})

await t.test('a resumption with null takes the wish for a registration back', async (t) => {
  const refused = newTenant()
  meta.fail('register', { reply: registerRefused(133005) })
  t.equal((await post(refused, login(refused, { pin: PIN }))).is, '409 META_REGISTER_REFUSED')
  t.equal((await resume(refused)).is, '409 META_REGISTER_REFUSED')
  t.equal((await resume(refused, { pin: null })).is, '200')
  t.match(stepIn(await record(refused), 'register'), { status: 'skipped', evidence: { reason: 'no_pin' }, error: null })
  t.equal(asked('register').length, 1)
  t.equal((await resume(refused, { pin: null })).is, '200', 'a completed onboarding')
  t.equal((await resume(refused, { pin: PIN })).is, '200', 'the wish may come back')
  t.match(stepIn(await record(refused), 'register'), { status: 'done' })

  const bare = newTenant()
  t.equal((await post(bare, { code: issue(), waba_id: newWaba(0).id, pin: PIN })).is, '409 META_REGISTER_REFUSED')
  t.equal((await resume(bare, { pin: null })).is, '200')
})
