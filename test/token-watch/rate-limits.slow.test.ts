import t from '../run/tap.js'
import { BLOCK_MS, clock } from '../fixtures/clock.js'
import { FIVE_MINUTES, HOUR, assertNear, usageReply, watch } from './watch.js'
import { GraphError, throttled } from '../graph/errors.js'
import type { Fault } from '../graph/faults.js'
import { usageHeaders } from '../graph/usage.js'

// Several tests wait for pauses between calls; each service needs its own database.
t.setTimeout(300_000)

const { meta, own, issue, asked, startService, reset } = await watch(t)
t.beforeEach(reset)

/** One check at a time. */
const IN_TURN = { TOKEN_CHECK_CONCURRENCY: 1 }

await t.test('the pauses before the checks grow with the utilization that Meta reports', async (t) => {
  const took = async (percent: number, concurrency = 1, tenants = 3) => {
    const { store, poll } = await startService(t, { TOKEN_CHECK_CONCURRENCY: concurrency })
    for (let i = 1; i <= tenants; i++) await store(`tenant ${i}`, issue())
    meta.clearFaults()
    meta.fail('debug_token', usageReply(percent))
    const began = performance.now()
    await poll()
    t.equal(asked().length, tenants)
    meta.requests.length = 0
    return performance.now() - began
  }
  // Three calls have two pauses; a timer may fire a millisecond early.
  t.ok(await took(76) >= 2 * 400 - 4)
  t.ok(await took(79) >= 2 * 1000 - 4)
  t.ok(await took(79, 2, 6) >= 2 * 1000 - 4, 'of two at once each pauses')
})

/** The due times of all tokens, by tenant. A claim or its release changes them. */
const dueTimes = async (sql: (text: string) => Promise<Array<Record<string, unknown>>>) =>
  await sql('select tenant_id, next_check_at::text from token_watch order by tenant_id')

await t.test('a token of a blocked app stays due and unclaimed; other apps are checked', async (t) => {
  const limits: Fault[] = [
    { reply: throttled(4) }, { reply: new GraphError(400, 341, 'limit') }, { reply: { status: 429, body: '' } },
    usageReply(100),
    { reply: throttled(4), headers: { 'x-app-usage': '{"call_count":101,"estimated_time_to_regain_access":60}' } }
  ]
  for (const limit of limits) {
    const { store, poll, healthOf, sql } = await startService(t)
    const { advance } = clock(t)
    meta.requests.length = 0
    const first = issue()
    await store('first', first)
    meta.fail('debug_token', { ...limit, times: 1 })
    await poll()
    const waiting = [issue(), issue()]
    await store('second', String(waiting[0]))
    // An incomplete app pair counts as none.
    await store('third', String(waiting[1]), { fb_app_id: own.app_id })
    const before = await dueTimes(sql)
    for (let times = 0; times < 3; times++) await poll()
    t.same(await dueTimes(sql), before, 'no token is claimed')

    await store('over', issue(), { token_expires_at: '2020-01-01T00:00:00Z' })
    const other = issue({ app_id: own.app_id })
    await store('another app', other, { fb_app_id: own.app_id, fb_app_secret: own.app_secret })
    await poll()
    t.same(asked(), [first, other])
    for (const tenant of ['second', 'third']) {
      const { wait, ...health } = await healthOf(tenant)
      t.ok(wait < 0, 'the token is still due')
      t.match(health, { token_status: 'unverified', checked_at: null })
    }
    t.match(await healthOf('another app'), { token_status: 'ok' })
    t.match(await healthOf('over'), { token_status: 'expired' })

    advance(limit.headers === undefined ? BLOCK_MS : 12 * BLOCK_MS)
    await poll()
    t.same(asked().slice(2).sort(), waiting.sort())
  }
})

await t.test('a blocked app of one tenant does not delay the tokens of other apps', async (t) => {
  const { store, poll, healthOf, sql } = await startService(t)
  const { advance } = clock(t)
  const pair = { fb_app_id: own.app_id, fb_app_secret: own.app_secret }
  await store('first', issue({ app_id: own.app_id }), pair)
  meta.fail('debug_token', { reply: throttled(4) })
  await poll()
  await store('same', issue({ app_id: own.app_id }), pair)
  const before = await dueTimes(sql)
  await store('platform', issue())
  await store('bare', issue(), { fb_app_secret: own.app_secret })
  await poll()
  t.match([
    await healthOf('platform'), await healthOf('bare'), await healthOf('same')
  ], [{ token_status: 'ok' }, { token_status: 'ok' }, { checked_at: null }])
  t.same((await dueTimes(sql)).filter(({ tenant_id: id }) => id === 'first' || id === 'same'), before)
  advance(BLOCK_MS)
  await poll()
  t.match(await healthOf('same'), { token_status: 'ok' })

  const bare = await startService(t, { FB_APP_ID: undefined, FB_APP_SECRET: undefined })
  await bare.store('first', issue({ app_id: own.app_id }), pair)
  meta.fail('debug_token', { reply: throttled(4) })
  await bare.poll()
  await bare.store('no app', issue())
  await bare.poll()
  t.match(await bare.healthOf('no app'), { reason: 'no_app' })
})

await t.test('a token claimed before a block waits until the block ends', async (t) => {
  const { store, poll, healthOf } = await startService(t, IN_TURN)
  clock(t)
  for (const tenant of ['one', 'two', 'three']) await store(tenant, issue())
  meta.fail('debug_token', {
    reply: throttled(4),
    headers: { 'x-app-usage': '{"estimated_time_to_regain_access":60}' }
  })
  await poll()
  t.equal(asked().length, 1)
  const waits = []
  for (const tenant of ['one', 'two', 'three']) waits.push((await healthOf(tenant)).wait)
  const [unclaimed = NaN, ...blocked] = waits.sort((a, b) => a - b)
  t.ok(unclaimed < 0, 'a token that is not claimed stays due')
  for (const wait of blocked) assertNear(t, wait, HOUR)
})

await t.test('an account at its limits does not delay other accounts', async (t) => {
  const usage = usageHeaders({ business: 100, waba_id: '1', regain_minutes: 20 })
  for (const limit of [
    usageReply(1, usage),
    { reply: throttled(80007), headers: usage },
    { reply: new GraphError(400, 613, 'limit'), headers: usage }
  ]) {
    const { store, poll, pollAll, healthOf, tenantConfigs, transitions } = await startService(t)
    reset()
    const [first, other, none] = [issue(), issue(), issue()]
    const inTime = (ms: number) => new Date(Date.now() + ms).toISOString()
    // A verified identity needs no further call.
    const storeVerified = async (
      tenant: string,
      token: string,
      more: { waba_id: string, token_expires_at?: string }
    ) => {
      const { access_token } = await store(tenant, token, more)
      await tenantConfigs.saveVerified({
        tenant_id: tenant,
        access_token,
        waba_id: more.waba_id,
        phone_number_id: null
      })
    }
    await storeVerified('first', first, { waba_id: '1' })
    meta.fail('debug_token', { ...limit, times: 1 })
    await poll()
    await storeVerified('same', issue(), { waba_id: '1' })
    await storeVerified('ends', issue(), { waba_id: '1', token_expires_at: inTime(100_000) })
    await storeVerified('other', other, { waba_id: '2' })
    await store('none', none)
    await poll()
    t.same(asked().sort(), [first, other, none].sort())
    for (const tenant of ['other', 'none']) t.match(await healthOf(tenant), { token_status: 'ok' })
    assertNear(t, (await healthOf('same')).wait, 4 * FIVE_MINUTES)
    assertNear(t, (await healthOf('ends')).wait, 100_000)
    await tenantConfigs.update('ends', { token_expires_at: inTime(-1) })
    await pollAll()
    t.equal(
      asked().filter((token) => token !== other && token !== none).length,
      1,
      'the expired token is not sent to Meta'
    )
    t.match(await healthOf('ends'), { token_status: 'expired', reason: 'date_passed' })
    t.match(await healthOf('same'), { token_status: 'unverified' })
    t.match(transitions.map(({ type, tenant_id: tenant }) => [type, tenant]), [['token.expired', 'ends']])
  }
})

await t.test('a token whose user is at a limit does not delay other tokens', async (t) => {
  const { store, poll, healthOf } = await startService(t)
  await store('first', issue())
  meta.fail('debug_token', { reply: new GraphError(400, 17, '(#17) User request limit reached') })
  await poll()
  assertNear(t, (await healthOf('first')).wait, FIVE_MINUTES)
  await store('other', issue())
  await poll()
  t.match(await healthOf('other'), { token_status: 'ok' })
})
