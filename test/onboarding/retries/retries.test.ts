import t from '../../run/tap.js'
import { BLOCK_MS, clock } from '../../fixtures/clock.js'
import { GraphError, throttled } from '../../graph/errors.js'
import type { Route } from '../../graph/faults.js'
import { makeUnreachable, until } from '../../helper.js'
import { stepsOf } from '../onboarding-service.js'
import { retriesService } from './retries-service.js'

const service = await retriesService(t, { GRAPH_TIMEOUT_MS: 1500 })
const {
  meta, post, resume, record, issue, newTenant, newWaba, asked, row, records, eventsOf, retryOf, makeDue, untilStatus,
  ownLogin
} = service
const { advance } = clock(t)

await t.test('an onboarding goes on by itself after a passing fault at any step', async (t) => {
  for (const [route, status] of [
    ['debug_token', '503'], ['phone_numbers', '504'], ['subscribe', '503']
  ] as const satisfies Array<[Route, string]>) {
    const tenant = newTenant()
    meta.fail(route, status === '504' ? { latency_ms: 2000 } : { drop: true })
    t.match((await post(tenant, ownLogin())).is, status)
    const { wait, ...state } = await retryOf(tenant)
    t.match(state, { status: 'in_progress', access_token: /^v2\./, is_failing: true })
    t.ok(wait !== null && wait > 5 && wait <= 10, `${wait} s`)
    t.same(eventsOf(tenant), [], 'a passing fault is no event')
    await makeDue(tenant)
    await untilStatus(tenant, 'completed')
    t.match(await row(tenant), { onboarding_completed: true, is_active: true })
    await until(() => eventsOf(tenant).length > 0)
    t.same(eventsOf(tenant), [['onboarding.completed', null]])
    t.match(await retryOf(tenant), { access_token: null, wait: null })
  }
  t.equal(asked('access_token').length, 3, 'each code was sent once')
})

await t.test('the time between two retries doubles, up to an hour, and Meta may ask for more', async (t) => {
  for (const [since, expected] of [['40 seconds', 40], ['30 minutes', 1800], ['10 hours', 3600], ['23.9 hours', 360]]) {
    const tenant = newTenant()
    meta.fail('subscribe', { drop: true, times: 2 })
    t.equal((await post(tenant, ownLogin())).is, '503 META_UNAVAILABLE')
    await makeDue(tenant, String(since))
    await until(() => asked('subscribe').length === 2)
    await until(async () => Number((await retryOf(tenant)).wait) > 1)
    const { wait } = await retryOf(tenant)
    t.ok(Math.abs(Number(wait) - Number(expected)) < 30, `${wait} s, about ${expected} s`)
    meta.requests.length = 0
    await service.sql("update onboardings set retry_at = null, status = 'failed' where tenant_id = $1", [tenant])
  }
  const tenant = newTenant()
  const limited = ownLogin()
  meta.fail('phone_numbers', {
    reply: throttled(80007),
    headers: {
      'x-business-use-case-usage': JSON.stringify({
        [String(limited.waba_id)]: [{ type: 'x', call_count: 100, estimated_time_to_regain_access: 7 }]
      })
    }
  })
  t.equal((await post(tenant, limited)).is, '503 META_RATE_LIMITED')
  t.ok(Math.abs(Number((await retryOf(tenant)).wait) - 420) < 10)
  advance(2 * BLOCK_MS)
})

await t.test('an onboarding that fails for 24 hours ends with its last error', async (t) => {
  const tenant = newTenant()
  const body = ownLogin()
  meta.fail('subscribe', { drop: true })
  t.equal((await post(tenant, body)).is, '503 META_UNAVAILABLE')
  await makeDue(tenant, '24 hours')
  await untilStatus(tenant, 'failed')
  await until(() => eventsOf(tenant).length > 0)
  t.same(eventsOf(tenant), [['onboarding.failed', 'META_UNAVAILABLE']])
  t.match(await records(tenant), [{ status: 'failed', access_token: null, holder: null }])
  t.match(stepsOf(await record(tenant))[4], 'subscribe failed 1 META_UNAVAILABLE')
  t.equal((await post(tenant, body)).is, '503 META_UNAVAILABLE', 'a replay gets the last error')
  t.equal(asked('subscribe').length, 1)

  const dead = newTenant()
  meta.fail('subscribe', { drop: true })
  await post(dead, ownLogin())
  await service.sql("update onboardings set steps = jsonb_set(jsonb_set(steps, '{4,status}', '\"pending\"'), " +
    "'{4,error}', 'null') where tenant_id = $1", [dead])
  await service.killExecutor(dead, '25 hours')
  await untilStatus(dead, 'failed')
  await until(() => eventsOf(dead).length > 0)
  t.same(eventsOf(dead), [['onboarding.failed', 'INTERNAL']])
})

await t.test('an onboarding that is ended while its step fails stays ended', async (t) => {
  const tenant = newTenant()
  const { answer } = await service.startWithMetaFault('subscribe', { latency_ms: 500, drop: true },
    async () => await post(tenant, ownLogin()))
  await service.configure(tenant, 'POST', undefined, '/deactivate')
  t.equal((await answer).is, '409 ONBOARDING_SUPERSEDED')
  t.match(await retryOf(tenant), { status: 'failed', wait: null })
})

await t.test('an onboarding without an unfinished step ends too', async (t) => {
  const tenant = newTenant()
  meta.fail('subscribe', { drop: true })
  await post(tenant, ownLogin())
  await service.sql(`update onboardings set steps = regexp_replace(steps::text,
    '"status": "(pending|failed)"', '"status": "done"', 'g')::jsonb where tenant_id = $1`, [tenant])
  await makeDue(tenant, '24 hours')
  await untilStatus(tenant, 'failed')
  await until(() => eventsOf(tenant).length > 0)
  t.same(eventsOf(tenant), [['onboarding.failed', 'INTERNAL']])
})

await t.test('a request begins the 24 hours anew', async (t) => {
  const tenant = newTenant()
  meta.fail('subscribe', { drop: true, times: 2 })
  await post(tenant, ownLogin())
  await service.sql("update onboardings set failing_since = now() - interval '23 hours' where tenant_id = $1", [tenant])
  t.equal((await resume(tenant)).is, '503 META_UNAVAILABLE')
  t.ok(Number((await retryOf(tenant)).wait) <= 10)
  t.equal((await resume(tenant)).is, '200')
})

await t.test('an onboarding whose executor died goes on, and a code on its way is given up', async (t) => {
  const [dead, lost] = [newTenant(), newTenant()]
  meta.fail('subscribe', { drop: true })
  await post(dead, ownLogin())
  await service.killExecutor(dead, '11 seconds')
  await untilStatus(dead, 'completed')

  meta.fail('access_token', { reply: new GraphError(400, 100, 'x') })
  await post(lost, ownLogin())
  await service.sql(`update onboardings set status = 'in_progress', holder = gen_random_uuid(),
    held_until = now() - interval '3 minutes',
    steps = jsonb_set(jsonb_set(steps, '{0,status}', '"pending"'), '{0,error}', 'null') where tenant_id = $1`, [lost])
  advance(BLOCK_MS)
  await untilStatus(lost, 'failed')
  t.same(eventsOf(lost).at(-1), ['onboarding.failed', 'META_EXCHANGE_UNKNOWN'])
})

await t.test('a change to another number goes on too when its executor dies before it is stored', async (t) => {
  const account = newWaba(2)
  const [first, second] = account.phones.map(({ id }) => id)
  const tenant = newTenant()
  t.equal((await post(tenant, { code: issue(), waba_id: account.id, phone_number_id: first })).is, '201')
  meta.fail('phone_numbers', { drop: true })
  t.equal((await resume(tenant, { phone_number_id: String(second) })).is, '503 META_UNAVAILABLE')
  await makeDue(tenant)
  await untilStatus(tenant, 'completed')
  t.match(await row(tenant), { phone_number_id: second, onboarding_completed: true })
})

await t.test('an onboarding that cannot be begun again is retried later', async (t) => {
  const tenant = newTenant()
  meta.fail('subscribe', { drop: true })
  await post(tenant, ownLogin())
  await service.sql("update tenant_configs set fb_app_id = '1', fb_app_secret = 'v1.k1.broken' where tenant_id = $1",
    [tenant])
  await makeDue(tenant)
  await until(async () => Number((await retryOf(tenant)).wait) > 1)
  t.equal(asked('subscribe').length, 1)
  await service.sql('update tenant_configs set fb_app_id = null, fb_app_secret = null where tenant_id = $1', [tenant])
  await makeDue(tenant)
  await untilStatus(tenant, 'completed')
})

await t.test('retries go on after an outage of the database', async () => {
  const tenant = newTenant()
  meta.fail('subscribe', { drop: true })
  await post(tenant, ownLogin())
  await makeDue(tenant)
  const restore = await makeUnreachable(service.databaseUrl)
  await until(() => service.log().includes('onboardings could not be continued'))
  await restore()
  await untilStatus(tenant, 'completed')
})
