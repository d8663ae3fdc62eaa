import t from '../../run/tap.js'
import { stepNames } from '../../../src/schemas/statuses.js'
import { faults } from '../../graph/faults.js'
import { until } from '../../helper.js'
import { onboardingService, PIN, stepIn, stepsOf } from '../onboarding-service.js'

const service = await onboardingService(t)
const {
  meta, waba, post, resume, record, login, newTenant, asked, row, expireLeases, freePhoneNumbers, sql, instance, log,
  startWithMetaFault, withoutTable
} = service

await t.test('an onboarding that crashed in any step is resumed at that step', async (t) => {
  for (const route of ['debug_token', 'phone_numbers', 'subscribe', 'register'] as const) {
    await freePhoneNumbers()
    const tenant = newTenant()
    const body = login(tenant, { pin: PIN })
    meta.requests.length = 0
    const other = await instance()
    const { answer: first } = await startWithMetaFault(route, { latency_ms: 500 }, async () => await post(tenant, body))
    await expireLeases(tenant)
    const resumed = await other.resume(tenant, { pin: PIN })
    t.equal(resumed.is, '200', route)
    t.match(await first, { body: resumed.body }, 'the first process returns the result of the resumption')
    t.equal(asked('access_token').length, 1)
    t.match(await row(tenant), { onboarding_completed: true, waba_id: waba.id })
  }
})

await t.test('a resumption waits for the running execution and repeats no step', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  const { answer: first } = await startWithMetaFault(
    'subscribe',
    { latency_ms: 500 },
    async () => await post(tenant, body)
  )
  const [resumed, replayed] = await Promise.all([resume(tenant), (await instance()).post(tenant, body)])
  t.same([resumed.is, replayed.is, (await first).is], ['200', '200', '201'])
  t.equal(asked('subscribe').length, 1)
  t.equal((await resume(tenant)).is, '200', 'no step is left')
  t.match(
    stepsOf(await record(tenant)),
    stepNames.map((name) => `${name} ${name === 'register' ? 'skipped' : 'done'} 1`)
  )
})

await t.test('30 concurrent resumptions execute each step once', async (t) => {
  const tenant = newTenant()
  meta.fail('debug_token', faults.dropBefore)
  await post(tenant, login(tenant))
  meta.requests.length = 0
  meta.fail('debug_token', { latency_ms: 300 })
  const other = await instance()
  const answers = await Promise.all(
    Array.from({ length: 30 }, async (_, i) => await (i % 2 ? service : other).resume(tenant))
  )
  t.same([...new Set(answers.map(({ is }) => is))], ['200'])
  t.same(asked().map(({ route }) => route), [
    'debug_token',
    'phone_numbers',
    ...Array.from({ length: Math.max(0, asked('phone_numbers').length - 1) }, () => 'phone_numbers'),
    'subscribe'
  ])
  t.match(stepIn(await record(tenant), 'inspect'), { attempts: 2 })
})

await t.test('a long execution renews its lease, also after a failed renewal', async (t) => {
  const tenant = newTenant()
  const { answer } = await startWithMetaFault(
    'subscribe',
    { latency_ms: 7000 },
    async () => await post(tenant, login(tenant))
  )
  await withoutTable('onboardings', async () => {
    await until(() => log().includes('the hold on an onboarding was not renewed'))
  })
  const isLeased = async () => (await sql(
    'select held_until > now() as leased from onboardings where tenant_id = $1',
    [tenant]
  ))[0]?.['leased']
  const began = Date.now()
  await until(async () => await isLeased() !== true || Date.now() > began + 4500)
  t.equal(await isLeased(), true, 'renewed beyond the five seconds of a lease')
  t.equal((await answer).is, '201')
})

await t.test('an execution that lost its lease is superseded, and a resumption continues', async (t) => {
  const tenant = newTenant()
  const { answer } = await startWithMetaFault(
    'subscribe',
    { latency_ms: 500 },
    async () => await post(tenant, login(tenant))
  )
  await sql('update onboardings set holder = gen_random_uuid(), held_until = null where tenant_id = $1', [tenant])
  t.equal((await answer).is, '409 ONBOARDING_SUPERSEDED')
  t.equal((await resume(tenant)).is, '200', 'a resumption continues')
})

await t.test('a record deleted during its execution ends the execution and all waits', async (t) => {
  const tenant = newTenant()
  const other = await instance()
  const body = login(tenant)
  const { answer: first } = await startWithMetaFault(
    'debug_token',
    { latency_ms: 1000 },
    async () => await post(tenant, body)
  )
  let reads = 0
  other.app.pg['tenantConfig']?.pool.on('acquire', () => { reads++ })
  const waiting = other.post(tenant, body)
  // After the second acquire the other instance polls the record.
  await until(() => reads >= 2)
  for (let times = 0; times < 3; times++) t.equal((await other.record(tenant)).is, '200')
  await sql('delete from onboardings where tenant_id = $1', [tenant])
  t.equal((await first).is, '409 ONBOARDING_SUPERSEDED')
  t.equal((await waiting).is, '404 ONBOARDING_NOT_FOUND')
  t.equal(await row(tenant), undefined)
})
