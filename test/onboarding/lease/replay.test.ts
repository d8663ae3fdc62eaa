import t from '../../run/tap.js'
import { temporarilyDown } from '../../graph/errors.js'
import { faults } from '../../graph/faults.js'
import type { Answer } from '../../routes/client.js'
import { onboardingService, stepIn } from '../onboarding-service.js'

const service = await onboardingService(t, { GRAPH_TIMEOUT_MS: 1500 })
const {
  meta, start, post, resume, record, configure, login, issue, newTenant, asked, row, records, freePhoneNumbers, instance
} = service
const other = await instance()

/** The number of answers by status and code. */
function countOf (answers: Answer[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { is } of answers) counts[is] = (counts[is] ?? 0) + 1
  return counts
}

await t.test('50 concurrent posts of one code send it to Meta once and return one configuration', async (t) => {
  for (const second of [service, other]) {
    await freePhoneNumbers()
    const tenant = newTenant()
    const body = login(tenant)
    const answers = await Promise.all(
      Array.from({ length: 50 }, async (_, i) => await (i % 2 ? service : second).post(tenant, body))
    )
    t.same(countOf(answers), { 200: 49, 201: 1 })
    const { body: config } = await configure(tenant, 'GET')
    for (const answer of answers) t.match(answer, { body: config })
    t.equal(asked('access_token').filter(({ form }) => form['code'] === body['code']).length, 1)
    t.equal(asked('subscribe').length, 1)
    t.equal((await post(tenant, body)).is, '200', 'a later post')
    t.equal((await records(tenant)).length, 1)
    meta.requests.length = 0
  }
})

await t.test('a replay is answered before its state and its other fields are checked', async (t) => {
  const tenant = newTenant()
  const { body: { state } } = await start(tenant, { redirect_uri: 'https://a.example' })
  const body = login(tenant, { state })
  const made = await post(tenant, body)
  t.equal(made.is, '201')
  const before = asked().length
  for (const further of [
    body,
    { ...body, state: undefined },
    { ...body, state: 'x', waba_id: '1', phone_number_id: '2', redirect_uri: 'https://b.example' }
  ]) {
    t.match(await post(tenant, further), { is: '200', body: made.body })
  }
  t.equal((await post(tenant, body, 'another user')).is, '200')
  t.equal(
    (await post(tenant, login(tenant, { state }))).is,
    '400 OAUTH_STATE_INVALID',
    'the state is used'
  )
  t.equal(asked().length, before)

  await configure(tenant, 'DELETE')
  t.equal((await post(tenant, body)).is, '404 CONFIG_NOT_FOUND')
  t.equal((await resume(tenant)).is, '404 CONFIG_NOT_FOUND')
  t.equal(await row(tenant), undefined)
})

await t.test('a code that another tenant posted is refused without a call to Meta', async (t) => {
  const [first, second] = [newTenant(), newTenant()]
  const { code } = login(first)
  for (const outcome of ['201', '400 META_CODE_USED']) {
    const { body: { state } } = await start(second, { redirect_uri: 'https://a.example' })
    if (outcome === '201') t.equal((await post(first, login(first, { code }))).is, outcome)
    const before = asked().length
    t.equal((await post(second, login(second, { code, state }))).is, '400 META_CODE_USED')
    t.equal(asked().length, before, 'no call to Meta')
    t.equal(
      (await post(second, login(second, { state }))).is,
      outcome === '201' ? '201' : '200',
      'the state is not used'
    )
  }
  const shared = login(newTenant())
  const answers = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => await (i % 2 ? service : other).post(newTenant(), shared))
  )
  t.same(countOf(answers), { 201: 1, '400 META_CODE_USED': 19 })
})

await t.test('a replay of a refused post returns the same refusal without a call to Meta', async (t) => {
  for (const [code, body] of [
    ['400 META_CODE_EXPIRED', () => ({ code: issue({ age: 31 }) })],
    ['400 META_CODE_INVALID', () => ({ code: 'x' })],
    ['400 META_REDIRECT_MISMATCH', () => ({ redirect_uri: 'https://a.example' })],
    ['403 META_WABA_NOT_ACCESSIBLE', () => ({ waba_id: '404' })],
    ['403 META_PHONE_NOT_IN_WABA', () => ({ phone_number_id: '404' })],
    ['403 META_PERMISSION_MISSING', () => ({ code: issue({ scopes: [] }) })]
  ] as const) {
    const tenant = newTenant()
    const sent = login(tenant, body())
    const first = await post(tenant, sent)
    t.equal(first.is, code)
    const before = asked().length
    const again = await post(tenant, sent)
    t.same({ ...again.body, request_id: null }, { ...first.body, request_id: null })
    t.same(again.headers['retry-after'], first.headers['retry-after'])
    t.equal(asked().length, before)
    const [kept] = await records(tenant)
    const isOpen = code === '403 META_PHONE_NOT_IN_WABA'
    t.match(
      kept,
      { status: isOpen ? 'in_progress' : 'failed', access_token: isOpen ? /^v2\./ : null },
      'an unusable token is deleted'
    )
    t.equal((await resume(tenant)).is, code, isOpen ? 'the step is repeated' : 'no step is left to resume')
    t.equal(await row(tenant), undefined)
  }
})

await t.test('a replay resumes an onboarding that failed transiently after the exchange', async (t) => {
  for (const [route, fault, code] of [
    ['debug_token', { latency_ms: 60_000 }, '504 META_TIMEOUT'],
    ['phone_numbers', faults.dropBefore, '503 META_UNAVAILABLE'],
    ['phone_numbers', faults.unreadable, '502 META_UNEXPECTED_REPLY'],
    ['subscribe', { reply: temporarilyDown() }, '503 META_UNAVAILABLE']
  ] as const) {
    await freePhoneNumbers()
    const tenant = newTenant()
    const body = login(tenant)
    meta.fail(route, fault)
    t.equal((await post(tenant, body)).is, code)
    t.match(await records(tenant), [{ status: 'in_progress', holder: null, held_until: null, access_token: /^v2\./ }])
    t.equal((await post(tenant, body)).is, '201', 'the first success of a tenant without a configuration')
    t.equal(asked('access_token').filter(({ form }) => form['code'] === body['code']).length, 1)
  }
  const tenant = newTenant()
  const body = login(tenant)
  meta.fail('debug_token', faults.badGateway)
  await post(tenant, body)
  t.equal((await post(tenant, { ...body, pin: '123456' })).is, '201')
  t.match(stepIn(await record(tenant), 'register'), { status: 'done' }, 'the pin of the second post is used')
})

await t.test('concurrent posts that wait for a failing onboarding return its error after one call', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  meta.fail('phone_numbers', { latency_ms: 700, ...faults.badGateway })
  const answers = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => await (i % 2 ? service : other).post(tenant, body))
  )
  t.same(countOf(answers), { '503 META_UNAVAILABLE': 20 })
  t.equal(asked('phone_numbers').length, 1)

  const resumed = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => await (i % 2 ? service : other).resume(tenant))
  )
  t.same(countOf(resumed), { 200: 20 })
  t.equal(asked('subscribe').length, 1)
  t.equal(asked('access_token').length, 1)
})
