import type { Test } from 'tap'
import t from '../../run/tap.js'
import {
  callsAgain, callsFrom, FOR_EVER_MS, names, onboardingLives, routes, stalls, type Unfinished
} from './service-processes.js'
import { until } from '../../helper.js'

t.setTimeout(300_000)

const {
  url, meta, callbackUrl, start, customer, granted, calls, login, post, resume, record, full, leftovers, leaks, heldAt,
  isWhole
} = await onboardingLives(t)
const stall = await stalls(t, url)
let life = await start()

/** Asserts that the current process finishes an onboarding and repeats no finished step. */
async function finishes (t: Test, unfinished: Unfinished): Promise<void> {
  const { customer, before, next, by, begun, isConfigured } = unfinished
  t.equal(await unfinished.answer, null, 'the service died before it answered')
  t.same(calls(customer), before)
  const done = names.indexOf(next)
  t.match(await record(life, customer), {
    status: 'in_progress',
    steps: names.map((_, i) => ({ status: i < done ? 'done' : 'pending' }))
  })
  if (next === 'exchange') {
    await isUnknown(t, unfinished)
    return
  }
  let tries = begun + 1
  if (next === 'register' && by === 'resume') {
    t.match(await resume(life, customer, {}), {
      is: '409 META_REGISTER_REFUSED',
      body: { detail: /pin is not stored/ }
    })
    t.same(calls(customer), before, 'and nothing is asked without a PIN')
    tries++
  }
  const reply = by === 'resume' ? await resume(life, customer) : await post(life, customer)
  // 201 is the first success of a tenant without a configuration.
  t.equal(reply?.is, by === 'code' && !isConfigured ? '201' : '200')
  const after = callsAgain(next).filter((route) => isConfigured || route !== 'override')
  t.same(calls(customer), [...before, ...after], `${by} after ${before.at(-1)}`)
  await isWhole(t, life, unfinished, tries)
  t.same(
    [...customer.waba.subscriptions.values()].map(({ override }) => override?.url),
    [isConfigured ? callbackUrl : undefined]
  )
  t.same([(await resume(life, customer, {})).is, (await post(life, customer))?.is], ['200', '200'])
  t.same(calls(customer), [...before, ...after], 'once it is completed, nothing is asked')
}

/** Asserts that the code is not sent again and that a new login succeeds. */
async function isUnknown (t: Test, { customer, by, isConfigured }: Unfinished): Promise<void> {
  for (const how of by === 'resume' ? [resume, post, resume] : [post, resume, post]) {
    t.equal((await how(life, customer))?.is, '502 META_EXCHANGE_UNKNOWN')
  }
  t.same(calls(customer), ['access_token'])
  t.match(await record(life, customer), {
    status: 'failed',
    steps: [
      { name: 'exchange', status: 'failed', attempts: 1, error: { code: 'META_EXCHANGE_UNKNOWN', meta_code: null } }
    ]
  })
  t.same(await leftovers(customer), [])
  t.match(
    await full(life, customer),
    isConfigured ? { access_token: `old-token-of-${customer.tenant}` } : { code: 'CONFIG_NOT_FOUND' }
  )
  const again = { ...customer, body: { ...customer.body, ...login(customer.waba) } }
  t.equal((await post(life, again))?.is, isConfigured ? '200' : '201')
  t.match(await full(life, again), { access_token: granted(again).at(-1), onboarding_completed: true })
}

const all = async (t: Test, unfinished: Unfinished[]) => {
  await Promise.all(unfinished.map(async (each) => { await finishes(t, each) }))
}

await t.test('an onboarding killed before the answer of Meta repeats no finished step', async (t) => {
  const unfinished = []
  for (const by of ['resume', 'code'] as const) {
    for (const route of routes) unfinished.push(await heldAt(life, route, { latency_ms: FOR_EVER_MS }, by))
  }
  await life.end('SIGKILL')
  life = await start()
  await all(t, unfinished)
})

await t.test('an onboarding killed before its next call reaches Meta repeats no finished step', async (t) => {
  const unfinished = []
  for (const by of ['resume', 'code'] as const) {
    for (const route of routes.filter((route) => route !== 'override')) {
      unfinished.push(await heldAt(life, route, { latency_ms: FOR_EVER_MS, drop: true }, by, false))
    }
  }
  await life.end('SIGKILL')
  life = await start()
  await all(t, unfinished)
})

await t.test('an onboarding killed during a write of a step repeats no finished step', async (t) => {
  const at = Date.now() + 10_000
  const unfinished: Unfinished[] = []
  for (const [i, name] of names.entries()) {
    for (const point of ['begun', 'done'] as const) {
      const before = callsFrom('exchange', point === 'done' ? name : names[i - 1])
      const last = before.at(-1)
      if (i === 0 && point === 'begun') continue
      if (last === undefined) throw new Error(`nothing comes before ${name}`)
      const login = await customer(life)
      await stall.at(login, name, point)
      // All writes block at about the same moment, because each has a statement timeout.
      meta.fail(last, { latency_ms: at - Date.now() })
      const answer = post(life, login)
      await until(() => calls(login).includes(last))
      unfinished.push({
        customer: login,
        answer,
        before,
        next: name,
        by: i % 2 === 0 ? 'resume' : 'code',
        begun: point === 'done' ? 1 : 0,
        isConfigured: true
      })
    }
  }
  const unbegun = await customer(life)
  await stall.at(unbegun, 'exchange', 'begun')
  await until(async () => await stall.waiting() > 0)
  const unanswered = post(life, unbegun)
  await until(async () => await stall.waiting() > unfinished.length)
  await life.end('SIGKILL')
  t.equal(await unanswered, null)
  // After the statement timeout, no blocked write can still commit.
  await until(async () => await stall.waiting() === 0)
  await stall.lift()
  life = await start()
  await all(t, unfinished)
  t.equal((await resume(life, unbegun)).is, '503 META_UNAVAILABLE', 'without the code there is nothing to go on with')
  t.same(calls(unbegun), [])
  t.equal((await post(life, unbegun))?.is, '200', 'the code was never sent, so it may be')
  t.same(calls(unbegun), routes)
})

await t.test('no process wrote a secret to its output', async (t) => {
  t.same(leaks(), [])
})
