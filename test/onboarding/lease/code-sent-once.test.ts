import t from '../../run/tap.js'
import { temporarilyDown } from '../../graph/errors.js'
import { faults } from '../../graph/faults.js'
import { makeUnreachable, until } from '../../helper.js'
import { onboardingService, stepsOf, unreachableMeta } from '../onboarding-service.js'

const service = await onboardingService(t, { GRAPH_TIMEOUT_MS: 1500 })
const {
  meta, post, resume, record, configure, login, newTenant, existing, asked, row, records, expireLeases, sql, instance,
  call, as, startWithMetaFault, withoutTable
} = service
const other = await instance()
const unreachable = await instance(unreachableMeta)

await t.test('a code is sent again only if the connection to Meta was refused', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  const refused = await unreachable.post(tenant, body)
  t.equal(refused.is, '503 META_UNAVAILABLE')
  t.match(stepsOf(await record(tenant)), ['exchange failed 1 META_UNAVAILABLE', ...Array(6).fill(/pending 0/)])
  t.equal((await resume(tenant)).is, '503 META_UNAVAILABLE', 'a resumption without the code cannot continue')
  t.equal((await unreachable.post(tenant, body)).is, '503 META_UNAVAILABLE')
  t.equal((await post(tenant, body)).is, '201')
  t.match(stepsOf(await record(tenant)), ['exchange done 3', ...Array(6).fill(String)])

  const late = newTenant()
  const old = login(late)
  await unreachable.post(late, old)
  t.equal((await post(late, login(late))).is, '201')
  t.equal((await post(late, old)).is, '409 ONBOARDING_SUPERSEDED', 'a newer login supersedes the older one')
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
    t.equal((await post(tenant, login(tenant))).is, '201', 'a new login succeeds')
  }
})

await t.test('a crash during the exchange leaves its outcome unknown until a late answer arrives', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  const { answer: first } = await startWithMetaFault(
    'access_token',
    { latency_ms: 1000 },
    async () => await post(tenant, body)
  )
  await expireLeases(tenant)
  for (const at of [other, other]) t.equal((await at.post(tenant, body)).is, '502 META_EXCHANGE_UNKNOWN')
  t.equal((await other.resume(tenant)).is, '502 META_EXCHANGE_UNKNOWN')
  t.match(stepsOf(await record(tenant)), ['exchange failed 1 META_EXCHANGE_UNKNOWN', ...Array(6).fill(/pending 0/)])
  t.equal((await first).is, '201', 'the slow answer completes the onboarding')
  t.match(stepsOf(await record(tenant)), [
    'exchange done 1', 'inspect done 1', 'assets done 1', 'store done 1', 'subscribe done 1', 'register skipped 1',
    'done done 1'
  ])
  t.equal(asked('access_token').length, 1)
})

await t.test('a code that was not sent before a crash is exchanged by the next post', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  await unreachable.post(tenant, body)
  await sql(
    `update onboardings set steps = jsonb_set(steps, '{0}', steps -> 1 || '{"name": "exchange"}')
      where tenant_id = $1`,
    [tenant]
  )
  t.match(stepsOf(await record(tenant)), Array(7).fill(/pending 0/))
  t.equal((await resume(tenant)).is, '503 META_UNAVAILABLE')
  t.equal((await post(tenant, body)).is, '201')
})

await t.test('a token that arrives during a database outage is stored after it', async (t) => {
  const withLongTimeout = await instance({ GRAPH_TIMEOUT_MS: 10_000 })
  const tenant = await existing({ waba_id: 'old' })
  const { answer } = await startWithMetaFault(
    'access_token',
    // Longer than the start of the outage takes on a busy machine.
    { latency_ms: 6000 },
    async () => await withLongTimeout.post(tenant, login(tenant))
  )
  // By then the token has arrived.
  const end = Date.now() + 7000
  const restore = await makeUnreachable(service.databaseUrl)
  await until(async () => (await call({}, 'GET', '/health/ready')).is.startsWith('503'))
  await until(() => Date.now() > end)
  await restore()
  t.equal((await answer).is, '200')
  t.equal(asked('access_token').length, 1)
  t.match(await configure(tenant, 'GET', undefined, '/full'), { body: { access_token: service.lastToken() } })
})

await t.test('a code whose token could not be stored is not sent again', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  const { answer } = await startWithMetaFault('access_token', { latency_ms: 300 }, async () => await post(tenant, body))
  await withoutTable('onboardings', async () => { t.equal((await answer).is, '500 INTERNAL') })
  await expireLeases(tenant)
  t.equal((await post(tenant, body)).is, '502 META_EXCHANGE_UNKNOWN')
  t.equal(asked('access_token').length, 1)
})

await t.test('a code is not sent while the database is down', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  const restore = await makeUnreachable(service.databaseUrl)
  t.equal(
    (await call(as(tenant), 'POST', '/api/v1/tenant/onboard/whatsapp-client', body)).is,
    '503 DATABASE_UNAVAILABLE'
  )
  t.same(asked(), [])
  await restore()
  t.equal((await post(tenant, body)).is, '201')
})
