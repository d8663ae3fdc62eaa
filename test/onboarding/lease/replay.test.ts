import t from '../../run/tap.js'
import { freePort } from '../../../src/database/embedded/free-port.js'
import { onboardingService, stepIn, stepsOf } from '../onboarding-service.js'
import { temporarilyDown } from '../../graph/errors.js'
import { faults } from '../../graph/faults.js'
import { takeAway, until } from '../../helper.js'
import type { Answer } from '../../routes/client.js'

const service = await onboardingService(t, { GRAPH_TIMEOUT_MS: 1500 })
const {
  meta, start, post, resume, record, configure, login, issue, newTenant, existing, asked, row, records, crash, vacate,
  sql, instance, call, as
} = service
const other = await instance()
// No process listens on this port.
const away = await instance({ GRAPH_API_BASE_URL: `http://127.0.0.1:${await freePort()}` })

/** The number of answers by status and code. */
function countOf (answers: Answer[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { is } of answers) counts[is] = (counts[is] ?? 0) + 1
  return counts
}

await t.test('50 concurrent posts of one code send it to Meta once and return one configuration', async (t) => {
  for (const second of [service, other]) {
    await vacate()
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
    t.equal((await post(tenant, body)).is, '200', 'and later')
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
    'the state is used up, after all'
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
    t.equal(asked().length, before, 'Meta is not asked')
    t.equal(
      (await post(second, login(second, { state }))).is,
      outcome === '201' ? '201' : '200',
      'the state is still there'
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
      { status: isOpen ? 'in_progress' : 'failed', access_token: isOpen ? /^v1\./ : null },
      'a token that is of no use is not kept'
    )
    t.equal((await resume(tenant)).is, code, isOpen ? 'tried again' : 'nothing to resume')
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
    await vacate()
    const tenant = newTenant()
    const body = login(tenant)
    meta.fail(route, fault)
    t.equal((await post(tenant, body)).is, code)
    t.match(await records(tenant), [{ status: 'in_progress', holder: null, held_until: null, access_token: /^v1\./ }])
    t.equal((await post(tenant, body)).is, '201', 'the first success of a tenant without a configuration')
    t.equal(asked('access_token').filter(({ form }) => form['code'] === body['code']).length, 1)
  }
  const tenant = newTenant()
  const body = login(tenant)
  meta.fail('debug_token', faults.badGateway)
  await post(tenant, body)
  t.equal((await post(tenant, { ...body, pin: '123456' })).is, '201')
  t.match(stepIn(await record(tenant), 'register'), { status: 'done' }, 'a pin that comes with the second post counts')
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

await t.test('a code is sent again only if the connection to Meta was refused', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  const refused = await away.post(tenant, body)
  t.equal(refused.is, '503 META_UNAVAILABLE')
  t.match(stepsOf(await record(tenant)), ['exchange failed 1 META_UNAVAILABLE', ...Array(6).fill(/pending 0/)])
  t.equal((await resume(tenant)).is, '503 META_UNAVAILABLE', 'without a code there is nothing to go on with')
  t.equal((await away.post(tenant, body)).is, '503 META_UNAVAILABLE')
  t.equal((await post(tenant, body)).is, '201')
  t.match(stepsOf(await record(tenant)), ['exchange done 3', ...Array(6).fill(String)])

  const late = newTenant()
  const old = login(late)
  await away.post(late, old)
  t.equal((await post(late, login(late))).is, '201')
  t.equal((await post(late, old)).is, '409 ONBOARDING_SUPERSEDED', 'a newer login took over')
})

await t.test('a code whose exchange has an unknown outcome is never sent again', async (t) => {
  for (const fault of [
    { latency_ms: 60_000 }, faults.dropBefore, faults.dropAfter, faults.badGateway, faults.unreadable,
    faults.withoutToken, { reply: temporarilyDown() }
  ]) {
    const tenant = newTenant()
    const body = login(tenant)
    meta.fail('access_token', fault)
    for (let times = 0; times < 2; times++) {
      const answer = await post(tenant, body)
      t.equal(answer.is, '502 META_EXCHANGE_UNKNOWN')
      t.match(answer.body, { detail: /Start the Meta login again/ })
    }
    t.equal((await resume(tenant)).is, '502 META_EXCHANGE_UNKNOWN')
    t.equal(asked('access_token').filter(({ form }) => form['code'] === body['code']).length, 1)
    t.equal(await row(tenant), undefined)
    t.match(await records(tenant), [{ status: 'failed', access_token: null }])
    t.equal((await post(tenant, login(tenant))).is, '201', 'a new login is a new start')
  }
})

await t.test('a crash during the exchange leaves its outcome unknown until a late answer arrives', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  meta.fail('access_token', { latency_ms: 1000 })
  const first = post(tenant, body)
  await until(() => asked('access_token').length === 1)
  await crash(tenant)
  for (const at of [other, other]) t.equal((await at.post(tenant, body)).is, '502 META_EXCHANGE_UNKNOWN')
  t.equal((await other.resume(tenant)).is, '502 META_EXCHANGE_UNKNOWN')
  t.match(stepsOf(await record(tenant)), ['exchange failed 1 META_EXCHANGE_UNKNOWN', ...Array(6).fill(/pending 0/)])
  t.equal((await first).is, '201', 'it was only slow')
  t.match(stepsOf(await record(tenant)), [
    'exchange done 1', 'inspect done 1', 'assets done 1', 'store done 1', 'subscribe done 1', 'register skipped 1',
    'done done 1'
  ])
  t.equal(asked('access_token').length, 1)
})

await t.test('a code that was not sent before a crash is exchanged by the next post', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  await away.post(tenant, body)
  await sql(
    "update onboardings set steps = jsonb_set(steps, '{0}', steps -> 1 || '{\"name\": \"exchange\"}') where " +
      'tenant_id = $1',
    [tenant]
  )
  t.match(stepsOf(await record(tenant)), Array(7).fill(/pending 0/))
  t.equal((await resume(tenant)).is, '503 META_UNAVAILABLE')
  t.equal((await post(tenant, body)).is, '201')
})

await t.test('a token that arrives during a database outage is stored after it', async (t) => {
  const patient = await instance({ GRAPH_TIMEOUT_MS: 10_000 })
  const tenant = await existing({ waba_id: 'old' })
  // Longer than the start of the outage takes on a busy machine.
  meta.fail('access_token', { latency_ms: 6000 })
  const answer = patient.post(tenant, login(tenant))
  await until(() => asked('access_token').length === 1)
  // By then the token has arrived.
  const end = Date.now() + 7000
  const giveBack = await takeAway(service.databaseUrl)
  await until(async () => (await call({}, 'GET', '/health/ready')).is.startsWith('503'))
  await until(() => Date.now() > end)
  await giveBack()
  t.equal((await answer).is, '200')
  t.equal(asked('access_token').length, 1)
  t.match(await configure(tenant, 'GET', undefined, '/full'), { body: { access_token: service.lastToken() } })
})

await t.test('a code whose token could not be stored is not sent again', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  meta.fail('access_token', { latency_ms: 300 })
  const answer = post(tenant, body)
  await until(() => asked('access_token').length === 1)
  await sql('alter table onboardings rename to renamed')
  t.equal((await answer).is, '500 INTERNAL')
  await sql('alter table renamed rename to onboardings')
  await crash(tenant)
  t.equal((await post(tenant, body)).is, '502 META_EXCHANGE_UNKNOWN')
  t.equal(asked('access_token').length, 1)
})

await t.test('a code is not sent while the database is down', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  const giveBack = await takeAway(service.databaseUrl)
  t.equal(
    (await call(as(tenant), 'POST', '/api/v1/tenant/onboard/whatsapp-client', body)).is,
    '503 DATABASE_UNAVAILABLE'
  )
  t.same(asked(), [])
  await giveBack()
  t.equal((await post(tenant, body)).is, '201')
})
