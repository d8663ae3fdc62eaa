import type { Test } from 'tap'
import t from '../../run/tap.js'
import { stepNames } from '../../../src/schemas/statuses.js'
import { until } from '../../helper.js'
import { blockedWrites } from './blocked-writes.js'
import { NEVER_MS, serviceProcesses, type Unfinished } from './service-processes.js'
import { allCalls, callsFrom, callsOfContinuation } from './step-calls.js'

t.setTimeout(300_000)

const {
  url, meta, callbackUrl, start, customer, granted, calls, login, post, resume, record, full, leftovers, leaks,
  startUntilCall, assertCompleted
} = await serviceProcesses(t)
const writes = await blockedWrites(t, url)
let service = await start()

/** Asserts that the current process finishes an onboarding and repeats no finished step. */
async function assertFinishes (t: Test, unfinished: Unfinished): Promise<void> {
  const { customer, before, next, by, attempts, isConfigured } = unfinished
  t.equal(await unfinished.answer, null, 'the process died before it answered')
  t.same(calls(customer), before)
  const done = stepNames.indexOf(next)
  t.match(await record(service, customer), {
    status: 'in_progress',
    steps: stepNames.map((_, i) => ({ status: i < done ? 'done' : 'pending' }))
  })
  if (next === 'exchange') {
    await assertUnknownExchange(t, unfinished)
    return
  }
  let expectedAttempts = attempts + 1
  if (next === 'register' && by === 'resume') {
    t.match(await resume(service, customer, {}), {
      is: '409 META_REGISTER_REFUSED',
      body: { detail: /pin is not stored/ }
    })
    t.same(calls(customer), before, 'a resumption without a PIN does not call Meta')
    expectedAttempts++
  }
  const reply = by === 'resume' ? await resume(service, customer) : await post(service, customer)
  // 201 is the first success of a tenant without a configuration.
  t.equal(reply?.is, by === 'code' && !isConfigured ? '201' : '200')
  const after = callsOfContinuation(next).filter((route) => isConfigured || route !== 'override')
  t.same(calls(customer), [...before, ...after], `${by} after ${before.at(-1)}`)
  await assertCompleted(t, service, unfinished, expectedAttempts)
  t.same(
    [...customer.waba.subscriptions.values()].map(({ override }) => override?.url),
    [isConfigured ? callbackUrl : undefined]
  )
  t.same([(await resume(service, customer, {})).is, (await post(service, customer))?.is], ['200', '200'])
  t.same(calls(customer), [...before, ...after], 'a completed onboarding does not call Meta')
}

/** Asserts that the code is not sent again and that a new login succeeds. */
async function assertUnknownExchange (t: Test, { customer, by, isConfigured }: Unfinished): Promise<void> {
  for (const how of by === 'resume' ? [resume, post, resume] : [post, resume, post]) {
    t.equal((await how(service, customer))?.is, '502 META_EXCHANGE_UNKNOWN')
  }
  t.same(calls(customer), ['access_token'])
  t.match(await record(service, customer), {
    status: 'failed',
    steps: [
      { name: 'exchange', status: 'failed', attempts: 1, error: { code: 'META_EXCHANGE_UNKNOWN', meta_code: null } }
    ]
  })
  t.same(await leftovers(customer), [])
  t.match(
    await full(service, customer),
    isConfigured ? { access_token: `old-token-of-${customer.tenant}` } : { code: 'CONFIG_NOT_FOUND' }
  )
  const again = { ...customer, body: { ...customer.body, ...login(customer.waba) } }
  t.equal((await post(service, again))?.is, isConfigured ? '200' : '201')
  t.match(await full(service, again), { access_token: granted(again).at(-1), onboarding_completed: true })
}

const assertAllFinish = async (t: Test, unfinished: Unfinished[]) => {
  await Promise.all(unfinished.map(async (each) => { await assertFinishes(t, each) }))
}

await t.test('an onboarding killed before the answer of Meta repeats no finished step', async (t) => {
  const unfinished = []
  for (const by of ['resume', 'code'] as const) {
    for (const route of allCalls) unfinished.push(await startUntilCall(service, route, { latency_ms: NEVER_MS }, by))
  }
  await service.end('SIGKILL')
  service = await start()
  await assertAllFinish(t, unfinished)
})

await t.test('an onboarding killed before its next call reaches Meta repeats no finished step', async (t) => {
  const unfinished = []
  for (const by of ['resume', 'code'] as const) {
    for (const route of allCalls.filter((route) => route !== 'override')) {
      unfinished.push(await startUntilCall(service, route, { latency_ms: NEVER_MS, drop: true }, by, false))
    }
  }
  await service.end('SIGKILL')
  service = await start()
  await assertAllFinish(t, unfinished)
})

await t.test('an onboarding killed during a write of a step repeats no finished step', async (t) => {
  const at = Date.now() + 10_000
  const unfinished: Unfinished[] = []
  for (const [i, name] of stepNames.entries()) {
    for (const state of ['started', 'done'] as const) {
      const before = callsFrom('exchange', state === 'done' ? name : stepNames[i - 1])
      const last = before.at(-1)
      if (i === 0 && state === 'started') continue
      if (last === undefined) throw new Error(`nothing comes before ${name}`)
      const login = await customer(service)
      await writes.blockAt(login.tenant, name, state)
      // All writes block at about the same moment, because each has a statement timeout.
      meta.fail(last, { latency_ms: at - Date.now() })
      const answer = post(service, login)
      await until(() => calls(login).includes(last))
      unfinished.push({
        customer: login,
        answer,
        before,
        next: name,
        by: i % 2 === 0 ? 'resume' : 'code',
        attempts: state === 'done' ? 1 : 0,
        isConfigured: true
      })
    }
  }
  const unstarted = await customer(service)
  await writes.blockAt(unstarted.tenant, 'exchange', 'started')
  await until(async () => await writes.countBlocked() > 0)
  const unanswered = post(service, unstarted)
  await until(async () => await writes.countBlocked() > unfinished.length)
  await service.end('SIGKILL')
  t.equal(await unanswered, null)
  // After the statement timeout, no blocked write can still commit.
  await until(async () => await writes.countBlocked() === 0)
  await writes.unblock()
  service = await start()
  await assertAllFinish(t, unfinished)
  t.equal((await resume(service, unstarted)).is, '503 META_UNAVAILABLE', 'a resumption has no code')
  t.same(calls(unstarted), [])
  t.equal((await post(service, unstarted))?.is, '200', 'the code was never sent to Meta')
  t.same(calls(unstarted), allCalls)
})

await t.test('no process wrote a secret to its output', async (t) => {
  t.same(leaks(), [])
})
