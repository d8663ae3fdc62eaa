import { setTimeout as delay } from 'node:timers/promises'
import t from '../../run/tap.js'
import { startWithMetaFault } from '../../fixtures/fault-injection.js'
import { makeUnreachable, until } from '../../helper.js'
import { NEVER_MS, serviceProcesses } from './service-processes.js'
import { allCalls, callsOfContinuation } from './step-calls.js'

t.setTimeout(300_000)

const {
  url, meta, start, customer, calls, post, resume, full, leaks, hasReceived, startUntilCall, assertCompleted
} = await serviceProcesses(t)
const other = await start()
let service = await start()

await t.test('an instance continued after SIGSTOP repeats no step that another one finished', async (t) => {
  const early = await startUntilCall(service, 'access_token', { latency_ms: 500 }, 'code')
  const late = await startUntilCall(service, 'subscribe', { latency_ms: 500 }, 'code')
  service.child.kill('SIGSTOP')
  t.equal((await resume(other, early.customer)).is, '502 META_EXCHANGE_UNKNOWN')
  t.equal((await resume(other, late.customer)).is, '200')
  service.child.kill('SIGCONT')
  for (const { customer, answer, next } of [early, late]) {
    t.equal((await answer)?.is, '200')
    t.equal(calls(customer).filter((route) => route === 'access_token').length, 1)
    t.equal(calls(customer).filter((route) => route === 'register').length, 1)
    // A token that arrives after its exchange counted as unknown is stored like any other.
    await assertCompleted(t, service, { customer, next }, next === 'exchange' ? 1 : 2)
  }
})

await t.test('an instance waiting for a killed one finishes all onboardings that have a token', async (t) => {
  const unfinished = []
  for (const route of allCalls) unfinished.push(await startUntilCall(service, route, { latency_ms: NEVER_MS }, 'code'))
  const replays = unfinished.map(async ({ customer }) => await post(other, customer))
  await until(() => hasReceived(other, 2 + unfinished.length))
  await service.end('SIGKILL')
  service = other
  for (const [i, { customer, answer, before, next }] of unfinished.entries()) {
    t.equal(await answer, null)
    const isUnknown = next === 'exchange'
    t.equal((await replays[i])?.is, isUnknown ? '502 META_EXCHANGE_UNKNOWN' : '200', `during ${before.at(-1)}`)
    t.same(calls(customer), isUnknown ? before : [...before, ...callsOfContinuation(next)])
    if (!isUnknown) await assertCompleted(t, service, { customer, next }, 2)
  }
})

await t.test('an onboarding completes although the database is down during the exchange', async (t) => {
  const login = await customer(service)
  const { answer } = await startWithMetaFault(
    meta,
    'access_token',
    { latency_ms: 1000 },
    async () => await post(service, login)
  )
  const restore = await makeUnreachable(url)
  // Longer than the lease of a dead instance.
  await delay(8000)
  t.same(calls(login), ['access_token'])
  await restore()
  t.equal((await answer)?.is, '200')
  t.same(calls(login), allCalls)
  await assertCompleted(t, service, { customer: login, next: 'exchange' }, 1)
})

await t.test('a process that gets SIGTERM awaits its calls, and the next one finishes the steps', async (t) => {
  const unfinished = []
  for (const route of allCalls) unfinished.push(await startUntilCall(service, route, { latency_ms: 3000 }, 'code'))
  t.equal(await service.end('SIGTERM'), 0)
  for (const { customer, answer, before } of unfinished) {
    t.equal((await answer)?.is, '503 SERVICE_CLOSING')
    t.same(calls(customer), before)
  }
  service = await start()
  for (const { customer } of unfinished) {
    t.equal((await resume(service, customer)).is, '200')
    t.equal(calls(customer).filter((route) => route === 'access_token').length, 1)
    t.match(await full(service, customer), { is_active: true, onboarding_completed: true })
  }
})

await t.test('no process wrote a secret to its output', async (t) => {
  t.same(leaks(), [])
})
