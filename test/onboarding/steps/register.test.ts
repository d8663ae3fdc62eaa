import t from '../../run/tap.js'
import { registerRefused } from '../../graph/errors.js'
import { query } from '../../helper.js'
import { onboardingService, PIN, stepIn, stepsOf } from '../onboarding-service.js'

const service = await onboardingService(t)
const {
  meta, waba, post, resume, record, login, newTenant, asked, row, freePhoneNumbers, databaseUrl, log, sql
} = service

await t.test('a number is registered only if a pin is given', async (t) => {
  const without = newTenant()
  t.equal((await post(without, login(without))).is, '201')
  t.match(stepIn(await record(without), 'register'), { status: 'skipped', evidence: { reason: 'no_pin' }, error: null })
  const tenant = newTenant()
  t.equal((await post(tenant, login(tenant, { pin: PIN }))).is, '201')
  const phone = waba.phones.find(({ id }) => tenant.endsWith(` ${id}`))
  t.match(phone, { pin: PIN, registered: true, attempts: [Number] })
  t.match(stepIn(await record(tenant), 'register'), { status: 'done', evidence: { phone_number_id: phone?.id } })
  t.equal(asked('register').length, 1)
  for (const pin of ['12345', '1234567', '12345a', 123456, null, '', '１２３４５６']) {
    t.equal((await post('x', login('x', { pin }))).is, '400 VALIDATION_FAILED')
    if (pin !== null) t.equal((await resume('x', { pin })).is, '400 VALIDATION_FAILED')
  }
})

await t.test('each refusal of a registration is recorded with advice and resumed with a pin', async (t) => {
  for (const [number, advice] of [
    [100, /six digits/], [133000, /made again at Meta/], [133005, /Send the right one .* reset it/],
    [133006, /verified again/], [133008, /guessed wrong too often/],
    [133009, /too fast/], [133010, /added and verified/], [133015, /deleted a short while ago/], [133016, /72 hours/]
  ] as const) {
    await freePhoneNumbers()
    const tenant = newTenant()
    const body = login(tenant, { pin: PIN })
    meta.requests.length = 0
    meta.fail('register', { reply: registerRefused(number) })
    t.match(await post(tenant, body), { is: '409 META_REGISTER_REFUSED', body: { detail: advice } }, String(number))
    t.match(stepIn(await record(tenant), 'register'), {
      status: 'failed',
      attempts: 1,
      evidence: null,
      error: {
        code: 'META_REGISTER_REFUSED',
        meta_code: number,
        meta_subcode: number === 100 ? 2388092 : null,
        fbtrace_id: /^A/,
        advice
      }
    })
    t.match(await row(tenant), { waba_id: waba.id, onboarding_completed: false })
    t.match(await post(tenant, body), { is: '409 META_REGISTER_REFUSED', body: { detail: advice } }, 'a replay')
    t.match(await resume(tenant), { is: '409 META_REGISTER_REFUSED', body: { detail: advice } }, 'without a pin')
    t.equal(asked('register').length, 1, 'no registration without a pin')
    t.equal((await resume(tenant, { pin: PIN })).is, '200')
    t.match(stepIn(await record(tenant), 'register'), { status: 'done', attempts: 2, error: null })
    t.match(await row(tenant), { onboarding_completed: true })
    t.equal(asked('subscribe').length, 1, 'a finished step is not repeated')
  }
})

await t.test('an onboarding with wrong pins completes with another number and its pin', async (t) => {
  const tenant = newTenant()
  const phone = waba.phones.find(({ id }) => tenant.endsWith(` ${id}`))
  if (phone === undefined) throw new Error('no phone')
  phone.pin = '654321'
  t.equal((await post(tenant, login(tenant, { pin: PIN }))).is, '409 META_REGISTER_REFUSED')
  t.equal((await resume(tenant, { pin: '111111' })).is, '409 META_REGISTER_REFUSED')
  t.match(stepIn(await record(tenant), 'register'), { attempts: 2, error: { meta_code: 133005 } })
  t.match(await resume(tenant, { phone_number_id: phone.id }), {
    is: '409 META_REGISTER_REFUSED',
    body: { detail: /pin is not stored/ }
  })
  t.equal(
    (await resume(tenant, { phone_number_id: '230', pin: '222222' })).is,
    '200',
    'another number is verified, stored and registered'
  )
  t.match(await row(tenant), { phone_number_id: '230', onboarding_completed: true })
  t.match(stepsOf(await record(tenant)), [
    'exchange done 1', 'inspect done 1', 'assets done 2', 'store done 2', 'subscribe done 2', 'register done 4',
    'done done 1'
  ])
  t.equal(phone.registered, false)
})

await t.test('a transient failure of a registration is resumed with the pin', async (t) => {
  const tenant = newTenant()
  meta.fail('register', { reply: registerRefused(133004) })
  t.equal((await post(tenant, login(tenant, { pin: PIN }))).is, '503 META_UNAVAILABLE')
  t.match(await resume(tenant), { is: '409 META_REGISTER_REFUSED', body: { detail: /pin is not stored/ } })
  t.equal((await resume(tenant, { pin: PIN })).is, '200')
})

await t.test('the pin is in no table, log or answer', async (t) => {
  const answers = await Promise.all(
    (await sql('select distinct tenant_id from onboardings')).map(async ({ tenant_id: id }) => await record(String(id)))
  )
  t.ok(answers.length > 10)
  const tables = await query(
    databaseUrl,
    `select format('%I.%I', schemaname, tablename) as name from pg_tables
      where schemaname not in ('pg_catalog', 'information_schema')`
  )
  const dump = JSON.stringify(
    await Promise.all(tables.map(async ({ name }) => await query(databaseUrl, `select t::text as row from ${name} t`)))
  )
  t.match(dump, waba.id, 'the dump contains known values')
  const texts = { dump, log: log(), answers: JSON.stringify(answers) }
  for (const [name, text] of Object.entries(texts)) t.notMatch(text, PIN, name)
})
