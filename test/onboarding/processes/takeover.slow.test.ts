import { setTimeout as delay } from 'node:timers/promises'
import t from '../../run/tap.js'
import { callsAgain, FOR_EVER_MS, onboardingLives, routes } from './service-processes.js'
import { takeAway, until } from '../../helper.js'

t.setTimeout(300_000)

const {
  url, meta, start, customer, calls, post, resume, full, leaks, hasHeard, heldAt, isWhole
} = await onboardingLives(t)
const other = await start()
let life = await start()

await t.test('an instance continued after SIGSTOP repeats no step that another one finished', async (t) => {
  const early = await heldAt(life, 'access_token', { latency_ms: 500 }, 'code')
  const late = await heldAt(life, 'subscribe', { latency_ms: 500 }, 'code')
  life.child.kill('SIGSTOP')
  t.equal((await resume(other, early.customer)).is, '502 META_EXCHANGE_UNKNOWN')
  t.equal((await resume(other, late.customer)).is, '200')
  life.child.kill('SIGCONT')
  for (const { customer, answer, next } of [early, late]) {
    t.equal((await answer)?.is, '200')
    t.equal(calls(customer).filter((route) => route === 'access_token').length, 1)
    t.equal(calls(customer).filter((route) => route === 'register').length, 1)
    // A token that arrives after its exchange was given up is stored like any other.
    await isWhole(t, life, { customer, next }, next === 'exchange' ? 1 : 2)
  }
})

await t.test('an instance waiting for a killed one finishes all onboardings that have a token', async (t) => {
  const unfinished = []
  for (const route of routes) unfinished.push(await heldAt(life, route, { latency_ms: FOR_EVER_MS }, 'code'))
  const replays = unfinished.map(async ({ customer }) => await post(other, customer))
  await until(() => hasHeard(other, 2 + unfinished.length))
  await life.end('SIGKILL')
  life = other
  for (const [i, { customer, answer, before, next }] of unfinished.entries()) {
    t.equal(await answer, null)
    const isLost = next === 'exchange'
    t.equal((await replays[i])?.is, isLost ? '502 META_EXCHANGE_UNKNOWN' : '200', `while ${before.at(-1)}`)
    t.same(calls(customer), isLost ? before : [...before, ...callsAgain(next)])
    if (!isLost) await isWhole(t, life, { customer, next }, 2)
  }
})

await t.test('an onboarding completes although the database is down during the exchange', async (t) => {
  const login = await customer(life)
  meta.fail('access_token', { latency_ms: 1000 })
  const answer = post(life, login)
  await until(() => calls(login).length === 1)
  const giveBack = await takeAway(url)
  // Longer than the lease of a dead instance.
  await delay(8000)
  t.same(calls(login), ['access_token'])
  await giveBack()
  t.equal((await answer)?.is, '200')
  t.same(calls(login), routes)
  await isWhole(t, life, { customer: login, next: 'exchange' }, 1)
})

await t.test('a process that gets SIGTERM awaits its calls, and the next one finishes the steps', async (t) => {
  const unfinished = []
  for (const route of routes) unfinished.push(await heldAt(life, route, { latency_ms: 3000 }, 'code'))
  t.equal(await life.end('SIGTERM'), 0)
  for (const { customer, answer, before } of unfinished) {
    t.equal((await answer)?.is, '503 SERVICE_CLOSING')
    t.same(calls(customer), before)
  }
  life = await start()
  for (const { customer } of unfinished) {
    t.equal((await resume(life, customer)).is, '200')
    t.equal(calls(customer).filter((route) => route === 'access_token').length, 1)
    t.match(await full(life, customer), { is_active: true, onboarding_completed: true })
  }
})

await t.test('no process wrote a secret to its output', async (t) => {
  t.same(leaks(), [])
})
