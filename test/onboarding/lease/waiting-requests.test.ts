import { setTimeout as delay } from 'node:timers/promises'
import t from '../../run/tap.js'
import { newSteps } from '../../../src/onboarding/record.js'
import { temporarilyDown } from '../../graph/errors.js'
import { until } from '../../helper.js'
import { onboard } from '../../routes/client.js'
import { onboardingService, stepsOf, USER } from '../onboarding-service.js'

// Long enough to observe a call; six of them are short enough to wait for.
const service = await onboardingService(t, { GRAPH_TIMEOUT_MS: 500 })
const {
  app, meta, as, post, resume, record, login, newTenant, asked, records, sql, instance, configure, startWithMetaFault
} = service
const origin = await app.listen({ port: 0, host: '127.0.0.1' })
const other = await instance()

/** Creates a tenant whose onboarding is leased by another process for `interval`. */
async function executedElsewhere (interval = '1 hour'): Promise<string> {
  const tenant = newTenant()
  await sql(`insert into onboardings (tenant_id, code_hash, steps, access_token, holder, held_until)
    values ($1, $1, $2, 'v1.x', gen_random_uuid(), now() + $3::interval)`, [
    tenant,
    JSON.stringify(newSteps().map((step) => step.name === 'exchange' ? { ...step, status: 'done' } : step)),
    interval
  ])
  return tenant
}

/** Sends a request over the network. Returns status and code, or the name of the error of an abort. */
const send = async (tenant: string, path: string, body: object, signal?: AbortSignal) =>
  await fetch(origin + path, {
    method: 'POST',
    headers: { ...as(tenant, USER), 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: signal ?? null
  })
    .then(
      async (response) => `${response.status} ${String(Object(await response.json())['code'] ?? '')}`.trim(),
      (err: Error) => err.name
    )

/** Counts the connections acquired from the pool in `ms` milliseconds. */
async function statements (ms: number): Promise<number> {
  let count = 0
  const counting = () => { count++ }
  app.pg['tenantConfig']?.pool.on('acquire', counting)
  await delay(ms)
  app.pg['tenantConfig']?.pool.off('acquire', counting)
  return count
}

await t.test('a wait for an outcome ends after the time limit of six calls', async (t) => {
  const tenant = await executedElsewhere()
  const began = performance.now()
  const { is, body } = await resume(tenant)
  t.equal(is, '503 ONBOARDING_UNDER_WAY')
  t.match(body['detail'], /Read GET \/onboard\/whatsapp-client/)
  t.ok(Math.abs(performance.now() - began - 3000) < 1500, '6 × 500 ms')
  t.equal((await record(tenant)).body['status'], 'in_progress')
})

await t.test('concurrent waits for one outcome share one poll, which stops when all clients leave', async (t) => {
  const tenant = await executedElsewhere()
  const client = new AbortController()
  const waiting = Array.from({ length: 50 }, async () => await send(tenant, `${onboard}/resume`, {}, client.signal))
  await delay(1000)
  const busy = await statements(1000)
  t.ok(busy >= 5 && busy <= 12, `one poll reads every 100 ms for all waiting requests: ${busy}`)
  client.abort()
  t.same([...new Set(await Promise.all(waiting))], ['AbortError'])
  await until(async () => await statements(300) === 0)
  t.notMatch(service.log(), '"msg":"answered INTERNAL"', 'an aborted request is not logged as an error')
})

await t.test('an onboarding completes although its client disconnects', async (t) => {
  const tenant = newTenant()
  const client = new AbortController()
  const { answer } = await startWithMetaFault(
    'debug_token',
    { latency_ms: 300 },
    async () => await send(tenant, onboard, login(tenant), client.signal)
  )
  client.abort()
  t.equal(await answer, 'AbortError')
  await until(async () => (await record(tenant)).body['status'] === 'completed')
  t.match(await service.row(tenant), { onboarding_completed: true })
})

await t.test('one of two clients that post the same code disconnects and the other gets the answer', async (t) => {
  for (const leaves of ['first', 'second']) {
    const tenant = newTenant()
    const body = login(tenant)
    meta.requests.length = 0
    const [one, two] = [new AbortController(), new AbortController()]
    const { answer: first } = await startWithMetaFault(
      'access_token',
      { latency_ms: 300 },
      async () => await send(tenant, onboard, body, one.signal)
    )
    const second = send(tenant, onboard, body, two.signal)
    await until(() => service.log().split(`"path":"${onboard}"`).length > 2)
    const [gone, stays] = leaves === 'first' ? [one, second] : [two, first]
    gone.abort()
    t.equal(await stays, leaves === 'first' ? '200' : '201')
    t.equal(asked('access_token').length, 1)
    await service.freePhoneNumbers()
  }
})

await t.test('a queued login whose client disconnects is never sent to Meta', async (t) => {
  const tenant = newTenant()
  meta.fail('access_token', { latency_ms: 400, times: 5 })
  const running = Array.from({ length: 5 }, async () => await post(tenant, login(tenant)))
  await until(() => asked('access_token').length === 5)
  const client = new AbortController()
  const left = send(tenant, onboard, login(tenant), client.signal)
  const stays = login(tenant)
  const stayed = [send(tenant, onboard, stays, client.signal), send(tenant, onboard, stays)]
  await delay(100)
  client.abort()
  t.same([await left, await stayed[0]], ['AbortError', 'AbortError'])
  t.match(await stayed[1], /^200/, 'another client waits for this login')
  await Promise.all(running)
  t.equal(asked('access_token').length, 6)
  t.equal((await records(tenant)).length, 6)
})

await t.test('200 concurrent posts of one code take one place in the queue', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  meta.fail('access_token', { latency_ms: 300 })
  const answers = await Promise.all(Array.from({ length: 200 }, async () => await post(tenant, body)))
  t.same(answers.map(({ is }) => is).sort(), [...Array(199).fill('200'), '201'])
})

await t.test('queued resumptions return the failure of the running one without calls to Meta', async (t) => {
  const tenant = newTenant()
  meta.fail('subscribe', { reply: temporarilyDown() })
  t.equal((await post(tenant, login(tenant))).is, '503 META_UNAVAILABLE')
  meta.requests.length = 0
  meta.fail('subscribe', { latency_ms: 300, reply: temporarilyDown() })
  const answers = await Promise.all(
    Array.from({ length: 30 }, async (_, i) => await (i % 2 ? service : other).resume(tenant))
  )
  t.same([...new Set(answers.map(({ is }) => is))], ['503 META_UNAVAILABLE'])
  t.equal(asked('subscribe').length, 1, 'one call to Meta for all resumptions')
  t.equal((await resume(tenant)).is, '200', 'a later resumption calls Meta again')
})

await t.test('a closing service answers all waiting requests with 503 SERVICE_CLOSING', async (t) => {
  const closing = await instance()
  const [elsewhere, busy] = [await executedElsewhere(), newTenant()]
  const body = { waba_id: service.waba.id, access_token: meta.state.issueToken({ app_id: app.env.FB_APP_ID ?? '' }) }
  t.equal((await configure(busy, 'POST', body)).is, '201')
  meta.requests.length = 0
  meta.fail('debug_token', { latency_ms: 400, times: 5 })
  const waiting = closing.resume(elsewhere)
  // Five dry runs call Meta; one waits in the queue.
  const runs = Array.from({ length: 6 }, async () => await closing.configure(busy, 'POST', { waba_id: '1' }, '/verify'))
  await until(() => asked('debug_token').length === 5)
  const closed = closing.app.close()
  for (const answer of [waiting, ...runs]) {
    t.match(await answer, {
      is: '503 SERVICE_CLOSING',
      headers: { 'retry-after': '5' }
    })
  }
  await closed
  t.equal(asked().length, 5, 'Meta gets no other call')
  t.match(stepsOf(await record(elsewhere)), ['exchange done 0', ...Array(6).fill(/pending 0/)])
})

await t.test('a service that closes during a step releases the lease and leaves the step pending', async (t) => {
  const closing = await instance({ GRAPH_TIMEOUT_MS: 5000 })
  const tenant = await service.existing({ callback_url: 'http://127.0.0.1:1/hook', verify_token: 'x' })
  const { answer } = await startWithMetaFault(
    'subscribe',
    { latency_ms: 400 },
    async () => await closing.post(tenant, login(tenant))
  )
  await closing.app.close()
  t.equal((await answer).is, '503 SERVICE_CLOSING')
  t.equal(asked('override').length, 0)
  t.match(await records(tenant), [{ status: 'in_progress', holder: null, held_until: null }])
  t.match(stepsOf(await record(tenant)), [
    'exchange done 1', 'inspect done 1', 'assets done 1', 'store done 1', ...Array(3).fill(/pending 0/)
  ])
  t.equal((await configure(tenant, 'PUT', { callback_url: null })).is, '200')
  t.equal((await resume(tenant)).is, '200', 'another process continues at once')
})

await t.test('a lease that cannot be released expires by itself', async (t) => {
  const closing = await instance({ GRAPH_TIMEOUT_MS: 5000 })
  const tenant = newTenant()
  const { answer } = await startWithMetaFault(
    'phone_numbers',
    { latency_ms: 400 },
    async () => await closing.post(tenant, login(tenant))
  )
  const closed = closing.app.close()
  await sql(`create function keep() returns trigger language plpgsql as $$ begin
    if new.holder is null then raise exception 'no'; end if; return new; end $$;
    create trigger keep before update on onboardings for each row execute function keep()`)
  t.equal((await answer).is, '503 SERVICE_CLOSING')
  await closed
  await sql('drop function keep() cascade')
  t.match(closing.log(), /an onboarding was not released/)
  await service.expireLeases(tenant)
  t.equal((await resume(tenant)).is, '200', 'a resumption continues after the lease has expired')
})

await t.test('a closing service refuses a new login without sending its code', async (t) => {
  const closing = await instance()
  const [first, tenant] = [newTenant(), newTenant()]
  const body = login(tenant)
  const { answer } = await startWithMetaFault(
    'access_token',
    { latency_ms: 400 },
    async () => await closing.post(first, login(first))
  )
  const closed = closing.app.close()
  await until(() => closing.app.closing.aborted)
  // A closing Fastify refuses injected requests, so the service is called directly.
  const input = { tenantId: tenant, userId: null, code: String(body['code']) }
  await t.rejects(closing.app.onboarding.complete(input, new AbortController().signal), { code: 'SERVICE_CLOSING' })
  t.equal((await answer).is, '503 SERVICE_CLOSING')
  await closed
  t.equal((await post(tenant, body)).is, '201')
})
