import t from '../run/tap.js'
import { BLOCK_MS, clock } from '../fixtures/clock.js'
import { serverProcess } from '../fixtures/server-process.js'
import { FIVE_MINUTES, HOUR, near, S_PER_DAY, watch } from './watch.js'
import { GraphError, throttled } from '../graph/errors.js'
import type { Fault } from '../graph/faults.js'
import { usageHeaders } from '../graph/usage.js'
import { baseEnv, buildTestApp, takeAway, until } from '../helper.js'
import { app as platform } from '../meta/wire.js'

// The child processes are slow on a busy machine.
t.setTimeout(300_000)

const { meta, own, issue, asked, watched, reset } = await watch(t)
t.beforeEach(reset)

await t.test('two instances check each of 200 due tokens once', async (t) => {
  const { store, sql, env } = await watched(t)
  const tokens = Array.from({ length: 200 }, () => issue())
  await Promise.all(tokens.map(async (token, i) => await store(`tenant ${i}`, token)))
  meta.fail('debug_token', { latency_ms: 5, times: Infinity })
  const instances = await Promise.all([buildTestApp(t, env), buildTestApp(t, env)])
  await until(async () => (await sql("select from token_watch where status = 'ok'")).length === 200)
  t.same(asked().sort(), tokens.sort())
  t.same(await sql('select from token_watch where next_check_at < now()'), [])
  for (const { log } of instances) t.ok(log().split('a call of the Graph API succeeded').length > 20, 'both took part')
})

await t.test('a token claimed by a killed process is due again when the claim expires', async (t) => {
  const { store, look, known, env, sql } = await watched(t, { GRAPH_TIMEOUT_MS: 60_000 })
  for (const tenant of ['one', 'two']) await store(tenant, issue())
  meta.fail('debug_token', { latency_ms: 60_000 })
  const { JWT_SECRET, ENCRYPTION_KEYS } = baseEnv
  const server = await serverProcess(t, { ...env, JWT_SECRET, ENCRYPTION_KEYS, GRAPH_TIMEOUT_MS: '60000' })
  await until(() => asked().length === 1)
  await server.end('SIGKILL')

  const lease = 10 * (3 * 60_000 + 5000)
  for (const tenant of ['one', 'two']) near(t, (await known(tenant)).wait, lease)
  await look()
  t.equal(asked().length, 1, 'while the claim lasts nobody else checks it')
  await sql("update token_watch set next_check_at = next_check_at - $1 * interval '1 ms'", [lease])
  await look()
  t.equal(asked().length, 3)
  for (const tenant of ['one', 'two']) t.match(await known(tenant), { token_status: 'ok' })
})

await t.test('a check changes nothing if a newer write or finding is stored meanwhile', async (t) => {
  const { store, look, known, tenantConfigs, tokenWatch, told, sql } = await watched(t)
  const overtakes: Array<[string, (sealed: string) => Promise<unknown>, string]> = [
    ['a new token', async () => await tenantConfigs.update('acme', { access_token: 'newer' }), 'unverified'],
    [
      'a newer finding',
      async (sealed) => await tokenWatch.record('acme', sealed, { valid: false, reason: 'PARTNER_REMOVED' }),
      'revoked'
    ],
    ['no token', async () => await tenantConfigs.update('acme', { access_token: null }), 'unverified']
  ]
  // The second call of the check of a token with 10 days left is its extension.
  for (const [left, answers] of [[60, 1], [10, 2]] as const) {
    for (const [what, overtake, status] of overtakes) {
      meta.requests.length = 0
      const { access_token: sealed } = await store('acme', issue({ expires_in: left * S_PER_DAY }))
      meta.fail(answers === 1 ? 'debug_token' : 'extend', { latency_ms: 400 })
      const looking = look()
      await until(() => meta.requests.length === answers)
      await overtake(String(sealed))
      const after = await sql('select * from tenant_configs')
      await looking
      t.match(await known('acme'), { token_status: status }, what)
      t.same(await sql('select * from tenant_configs'), after, what)
      await tenantConfigs.remove('acme')
    }
  }
  t.same(told.map(({ type, reason }) => [type, reason]), Array(2).fill(['token.revoked', 'PARTNER_REMOVED']))
})

/** The reply of debug_token for a valid token, with the usage headers of Meta. */
function withUsage (percent: number, more: Record<string, string> = {}): Fault {
  const body = JSON.stringify({ data: { is_valid: true, app_id: platform.id, expires_at: 0 } })
  return {
    times: Infinity,
    reply: {
      status: 200,
      headers: { 'x-app-usage': JSON.stringify({ call_count: percent, total_time: 1, total_cputime: 1 }), ...more },
      body
    }
  }
}

await t.test('the pauses between the calls grow with the utilization that Meta reports', async (t) => {
  const took = async (percent: number) => {
    const { store, look } = await watched(t)
    for (const tenant of ['one', 'two', 'three']) await store(tenant, issue())
    meta.clearFaults()
    meta.fail('debug_token', withUsage(percent))
    const began = performance.now()
    await look()
    t.equal(asked().length, 3)
    meta.requests.length = 0
    return performance.now() - began
  }
  // Three calls have two pauses; a timer may fire a millisecond early.
  t.ok(await took(76) >= 2 * 400 - 4)
  t.ok(await took(79) >= 2 * 1000 - 4)
})

/** The due times of all tokens, by tenant. A claim or its release changes them. */
const dueTimes = async (sql: (text: string) => Promise<Array<Record<string, unknown>>>) =>
  await sql('select tenant_id, next_check_at::text from token_watch order by tenant_id')

await t.test('a token of a blocked app stays due and unclaimed; other apps are checked', async (t) => {
  const limits: Fault[] = [
    { reply: throttled(4) }, { reply: new GraphError(400, 341, 'limit') }, { reply: { status: 429, body: '' } },
    withUsage(100),
    { reply: throttled(4), headers: { 'x-app-usage': '{"call_count":101,"estimated_time_to_regain_access":60}' } }
  ]
  for (const limit of limits) {
    const { store, look, known, sql } = await watched(t)
    const { goOn } = clock(t)
    meta.requests.length = 0
    const first = issue()
    await store('first', first)
    meta.fail('debug_token', { ...limit, times: 1 })
    await look()
    const waiting = [issue(), issue()]
    await store('second', String(waiting[0]))
    // An incomplete app pair counts as none.
    await store('third', String(waiting[1]), { fb_app_id: own.app_id })
    const before = await dueTimes(sql)
    for (let times = 0; times < 3; times++) await look()
    t.same(await dueTimes(sql), before, 'nothing is claimed')

    await store('over', issue(), { token_expires_at: '2020-01-01T00:00:00Z' })
    const other = issue({ app_id: own.app_id })
    await store('another app', other, { fb_app_id: own.app_id, fb_app_secret: own.app_secret })
    await look()
    t.same(asked(), [first, other])
    for (const tenant of ['second', 'third']) {
      const { wait, ...health } = await known(tenant)
      t.ok(wait < 0, 'still due')
      t.match(health, { token_status: 'unverified', checked_at: null })
    }
    t.match(await known('another app'), { token_status: 'ok' })
    t.match(await known('over'), { token_status: 'expired' })

    goOn(limit.headers === undefined ? BLOCK_MS : 12 * BLOCK_MS)
    await look()
    t.same(asked().slice(2).sort(), waiting.sort())
  }
})

await t.test('a blocked app of one tenant does not delay the tokens of other apps', async (t) => {
  const { store, look, known, sql } = await watched(t)
  const { goOn } = clock(t)
  const pair = { fb_app_id: own.app_id, fb_app_secret: own.app_secret }
  await store('first', issue({ app_id: own.app_id }), pair)
  meta.fail('debug_token', { reply: throttled(4) })
  await look()
  await store('same', issue({ app_id: own.app_id }), pair)
  const before = await dueTimes(sql)
  await store('platform', issue())
  await store('bare', issue(), { fb_app_secret: own.app_secret })
  await look()
  t.match([
    await known('platform'), await known('bare'), await known('same')
  ], [{ token_status: 'ok' }, { token_status: 'ok' }, { checked_at: null }])
  t.same((await dueTimes(sql)).filter(({ tenant_id: id }) => id === 'first' || id === 'same'), before)
  goOn(BLOCK_MS)
  await look()
  t.match(await known('same'), { token_status: 'ok' })

  const bare = await watched(t, { FB_APP_ID: undefined, FB_APP_SECRET: undefined })
  await bare.store('first', issue({ app_id: own.app_id }), pair)
  meta.fail('debug_token', { reply: throttled(4) })
  await bare.look()
  await bare.store('no app', issue())
  await bare.look()
  t.match(await bare.known('no app'), { reason: 'no_app' })
})

await t.test('a token claimed before a block waits until the block ends', async (t) => {
  const { store, look, known } = await watched(t)
  clock(t)
  for (const tenant of ['one', 'two', 'three']) await store(tenant, issue())
  meta.fail('debug_token', {
    reply: throttled(4),
    headers: { 'x-app-usage': '{"estimated_time_to_regain_access":60}' }
  })
  await look()
  t.equal(asked().length, 1)
  for (const tenant of ['one', 'two', 'three']) near(t, (await known(tenant)).wait, HOUR)
})

await t.test('an account at its limits does not delay other accounts', async (t) => {
  const usage = usageHeaders({ business: 100, waba_id: '1', regain_minutes: 20 })
  for (const limit of [
    withUsage(1, usage),
    { reply: throttled(80007), headers: usage },
    { reply: new GraphError(400, 613, 'limit'), headers: usage }
  ]) {
    const { store, look, again, known, tenantConfigs, told } = await watched(t)
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
    await look()
    await storeVerified('same', issue(), { waba_id: '1' })
    await storeVerified('ends', issue(), { waba_id: '1', token_expires_at: inTime(100_000) })
    await storeVerified('other', other, { waba_id: '2' })
    await store('none', none)
    await look()
    t.same(asked().sort(), [first, other, none].sort())
    for (const tenant of ['other', 'none']) t.match(await known(tenant), { token_status: 'ok' })
    near(t, (await known('same')).wait, 4 * FIVE_MINUTES)
    near(t, (await known('ends')).wait, 100_000)
    await tenantConfigs.update('ends', { token_expires_at: inTime(-1) })
    await again()
    t.equal(asked().filter((token) => token !== other && token !== none).length, 1, 'Meta is not asked for it')
    t.match(await known('ends'), { token_status: 'expired', reason: 'date_passed' })
    t.match(await known('same'), { token_status: 'unverified' })
    t.match(told.map(({ type, tenant_id: tenant }) => [type, tenant]), [['token.expired', 'ends']])
  }
})

await t.test('a token whose user is at a limit does not delay other tokens', async (t) => {
  const { store, look, known } = await watched(t)
  await store('first', issue())
  meta.fail('debug_token', { reply: new GraphError(400, 17, '(#17) User request limit reached') })
  await look()
  near(t, (await known('first')).wait, FIVE_MINUTES)
  await store('other', issue())
  await look()
  t.match(await known('other'), { token_status: 'ok' })
})

await t.test('a token of an inactive tenant is checked only after the activation, once', async (t) => {
  const { store, look, again, known, tenantConfigs, tokenWatch, sql } = await watched(t)
  const [token, soon] = [issue(), issue({ expires_in: 10 * S_PER_DAY })]
  const { access_token: sealed } = await store('off', token)
  await look()
  await store('ends', soon)
  for (const tenant of ['off', 'ends']) await tenantConfigs.setActive(tenant, false)
  reset()
  await look()
  // Nor if its watch was made due without a trigger, or the row is written.
  await again()
  await tenantConfigs.update('off', { token_expires_at: '2040-01-01T00:00:00Z', waba_id: '1' })
  await sql("insert into tenant_configs (tenant_id, access_token, is_active) values ('born off', $1, false)", [sealed])
  await look()
  t.same(asked(), [])
  t.same(await sql('select tenant_id from token_watch where next_check_at < now()'), [])
  const health = { token_status: 'ok', token_expires_at: '2040-01-01T00:00:00.000000Z', next_check_at: null }
  t.match(await tokenWatch.healthOf('off'), health, 'what was found last is known')
  t.equal(
    await tokenWatch.record('off', String(sealed), { valid: true, expires_at: null }),
    true,
    'a finding of another kind is noted'
  )
  await look()
  t.same(asked(), [])

  for (const tenant of ['off', 'ends']) await tenantConfigs.setActive(tenant, true)
  await look()
  const extended = [...meta.state.tokens.keys()].at(-1)
  t.same(asked().sort(), [token, soon, extended].sort())
  for (const tenant of ['off', 'ends']) t.match(await known(tenant), { token_status: 'ok' })
  await look()
  t.equal(asked().length, 3)
})

await t.test('a new token of an inactive tenant is first checked after the activation', async (t) => {
  const { store, look, known, tenantConfigs } = await watched(t)
  await store('acme', issue())
  await tenantConfigs.setActive('acme', false)
  const token = issue()
  await tenantConfigs.update('acme', { access_token: token })
  await look()
  t.same(asked(), [])
  t.match(await known('acme'), { token_status: 'unverified', checked_at: null })
  await tenantConfigs.setActive('acme', true)
  await look()
  t.same(asked(), [token])
})

await t.test('the scheduler polls at its interval and continues after a database outage', async (t) => {
  const { databaseUrl, env, store, told, sql } = await watched(t)
  const token = issue({ expires_in: 0 })
  await store('acme', token)
  const { log, app } = await buildTestApp(t, { ...env, TOKEN_CHECK_INTERVAL_MS: 100 })
  app.tokenWatch.onTransition((transition) => { told.push(transition) })
  await until(() => asked().length > 2)
  // An interrupted check would be repeated only when its claim expires, so none must be due.
  await sql("update token_watch set next_check_at = now() + interval '1 hour'")
  const giveBack = await takeAway(databaseUrl)
  await until(() => log().includes('the token monitor could not look for tokens that are due'))
  Object.assign(meta.state.tokens.get(token) ?? {}, { revoked: 460 })
  await giveBack()
  await sql('update token_watch set next_check_at = now()')
  await until(() => told.length >= 2)
  t.match(told.map(({ type }) => type), ['token.revoked', 'token.reauth_required'])
})

await t.test('a closing scheduler waits for no call or pause and releases its claims', async (t) => {
  for (const slow of ['call', 'extension', 'pause']) {
    meta.requests.length = 0
    meta.clearFaults()
    const { store, env, sql } = await watched(t, { GRAPH_TIMEOUT_MS: 60_000 })
    for (const tenant of ['one', 'two', 'three']) await store(tenant, issue({ expires_in: 10 * S_PER_DAY }))
    if (slow === 'pause') meta.fail('debug_token', withUsage(99))
    else meta.fail(slow === 'call' ? 'debug_token' : 'extend', { latency_ms: 60_000 })
    const { app, log } = await buildTestApp(t, env)
    const due = async () => (await sql('select from token_watch where next_check_at <= now()')).length
    await until(async () => meta.requests.length === (slow === 'extension' ? 2 : 1) && await due() === 0)
    if (slow === 'pause') {
      await until(async () => (await sql('select from token_watch where checked_at is not null')).length === 1)
    }
    const began = performance.now()
    await app.close()
    t.ok(performance.now() - began < 3000)
    t.equal(asked().length, 1)
    t.equal(await due(), slow === 'pause' ? 2 : 3)
    t.notMatch(log(), 'the check of a token failed')
  }
})

await t.test('a token that is deleted or not due is not checked', async (t) => {
  const { store, look, tenantConfigs, sql } = await watched(t)
  const tokens = { one: issue(), two: issue() }
  for (const [tenant, token] of Object.entries(tokens)) await store(tenant, token)
  await tenantConfigs.create('bare', null, { waba_id: '1' })
  await sql("insert into token_watch (tenant_id) values ('bare'), ('nobody')")
  meta.fail('debug_token', { latency_ms: 400 })
  const looking = look()
  await until(() => asked().length === 1)
  const [first] = asked()
  await sql('delete from tenant_configs where tenant_id = $1', [first === tokens.one ? 'two' : 'one'])
  await looking
  t.same(asked(), [first])
  await look()
  t.same(asked(), [first], 'what is not due is not asked about')
})
