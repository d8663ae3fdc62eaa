import type { Test } from 'tap'
import t from '../../run/tap.js'
import { stepNames } from '../../../src/schemas/statuses.js'
import { query, until } from '../../helper.js'
import { blockedWrites } from './blocked-writes.js'
import { NEVER_MS, serviceProcesses, type Customer, type Unfinished } from './service-processes.js'
import { allCalls, callsFrom } from './step-calls.js'

t.setTimeout(300_000)

/** How long after its restart a process may take to complete what it left. */
const LIMIT_MS = 60_000
const PIN_STEP = 'register'

// Nobody listens there: the events stay in the outbox.
const { url, meta, start, customer, calls, post, resume, record, full, granted, leaks, startUntilCall } =
  await serviceProcesses(t, {
    EVENTS_WEBHOOK_URL: 'http://127.0.0.1:9/', EVENTS_WEBHOOK_SECRET: 'what-signs-the-events'
  })
const writes = await blockedWrites(t, url)

const eventsOf = async ({ tenant }: Customer) => (await query(
  url, "select type, reason from events_outbox where tenant_id = $1 and type like 'onboarding.%' order by at", [tenant]
)).map(({ type, reason }) => [type, reason])

const statusOf = async ({ tenant }: Customer) =>
  (await query(url, 'select status from onboardings where tenant_id = $1', [tenant]))[0]?.['status']

/** Asserts that everything is completed, or waits for its PIN, without a request; then the PIN completes the rest. */
async function assertComplete (t: Test, unfinished: Unfinished[]): Promise<void> {
  const service = await start()
  const began = performance.now()
  const needsPin = ({ next }: Unfinished) => next === PIN_STEP
  await until(async () => {
    const states = await Promise.all(unfinished.map(async (each) => needsPin(each)
      ? (await eventsOf(each.customer)).length > 0
      : await statusOf(each.customer) === 'completed'))
    return states.every(Boolean)
  }, LIMIT_MS)
  t.comment(`${unfinished.length} onboardings in ${Math.round(performance.now() - began)} ms`)
  for (const each of unfinished) {
    const { customer, next, before } = each
    const name = `${customer.tenant}, killed in ${next}`
    if (needsPin(each)) {
      t.same(calls(customer), before, `${name}: no registration without its PIN`)
      t.same(await eventsOf(customer), [['onboarding.waiting', 'pin']], name)
      t.equal((await resume(service, customer)).is, '200', name)
    }
    t.equal(calls(customer).filter((route) => route === 'access_token').length, 1, `${name}: the code was sent once`)
    // A registration whose answer was not recorded is made again; the same PIN makes that harmless.
    const registrations = (needsPin(each) ? 1 : 0) + (before.includes('register') ? 1 : 0)
    t.equal(calls(customer).filter((route) => route === 'register').length, registrations, name)
    t.match(await full(service, customer), { access_token: granted(customer)[0], onboarding_completed: true }, name)
    t.equal((await record(service, customer)).status, 'completed')
    const completed = (await eventsOf(customer)).filter(([type]) => type === 'onboarding.completed')
    t.equal(completed.length, 1, `${name}: one event`)
  }
  await service.end('SIGTERM')
}

await t.test('two processes killed during a call leave onboardings that complete by themselves', async (t) => {
  const processes = await Promise.all([start(), start()])
  const unfinished: Unfinished[] = []
  for (const process of processes) {
    for (const route of allCalls.filter((route) => route !== 'access_token')) {
      const hasPin = route === 'register'
      unfinished.push(await startUntilCall(process, route, { latency_ms: NEVER_MS }, 'code', true, hasPin))
    }
  }
  await Promise.all(processes.map(async (process) => await process.end('SIGKILL')))
  for (const { answer } of unfinished) t.equal(await answer, null)
  await assertComplete(t, unfinished)
})

await t.test('two processes killed during a write leave onboardings that complete by themselves', async (t) => {
  const processes = await Promise.all([start(), start()])
  const at = Date.now() + 10_000
  const unfinished: Unfinished[] = []
  for (const [i, name] of stepNames.entries()) {
    for (const state of ['started', 'done'] as const) {
      const isRegistered = name === 'done' || (name === PIN_STEP && state === 'done')
      const before = callsFrom('exchange', isRegistered ? 'register' : state === 'done' ? name : stepNames[i - 1])
      const last = before.at(-1)
      const service = processes[i % 2]
      // Before the token is stored nobody can go on.
      if (i === 0 || last === undefined || service === undefined) continue
      const login = await customer(service, { hasPin: name === PIN_STEP || name === 'done' })
      await writes.blockAt(login.tenant, name, state)
      // All writes block at about the same moment, because each has a statement timeout.
      meta.fail(last, { latency_ms: at - Date.now() })
      const answer = post(service, login)
      await until(() => calls(login).includes(last))
      unfinished.push({ customer: login, answer, before, next: name, by: 'code', attempts: 1, isConfigured: true })
    }
  }
  await until(async () => await writes.countBlocked() === unfinished.length)
  await Promise.all(processes.map(async (process) => await process.end('SIGKILL')))
  for (const { answer } of unfinished) t.equal(await answer, null)
  await until(async () => await writes.countBlocked() === 0)
  await writes.unblock()
  await assertComplete(t, unfinished)
})

await t.test('no process wrote a secret to its output', async (t) => {
  t.same(leaks(), [])
})
