import t, { type Test } from 'tap'
import type { EnvSource } from '../../src/app.js'
import { createTokenMonitor } from '../../src/plugins/token-monitor.js'
import type { Transition } from '../../src/plugins/token-watch.js'
import { serverProcess } from '../fixtures/server-process.js'
import { GraphError, temporarilyDown, throttled } from '../graph/errors.js'
import { faults, type Fault } from '../graph/faults.js'
import type { Grant } from '../graph/state.js'
import { baseEnv, buildTestApp, createDatabase, query, takeAway, until } from '../helper.js'
import { app as platform, standIn } from './meta-wire.js'

const DAY = 24 * 60 * 60 * 1000
const S_PER_DAY = 24 * 60 * 60
const FIVE_MINUTES = 5 * 60_000
const HOUR = 60 * 60_000
const PLATFORM = { FB_APP_ID: platform.id, FB_APP_SECRET: platform.secret }

const { meta } = await standIn(t)
const own = meta.state.addApp({ app_id: '42' })
t.beforeEach(() => {
  meta.requests.length = 0
  meta.clearFaults()
})

const issue = (grant: Partial<Grant> = {}) => meta.state.issueToken({ app_id: platform.id, ...grant })
/** The tokens that Meta was asked about, in that order. */
const asked = () => meta.requests.flatMap(({ route, query }) => route === 'debug_token' ? [query['input_token']] : [])

/** A service on a database of its own that looks for due tokens when a test says so: its own monitor found none when it began. */
async function watched (t: Test, env: EnvSource = {}) {
  const DATABASE_URL = await createDatabase(t, { watched: true })
  const service = await buildTestApp(t, { DATABASE_URL, GRAPH_API_BASE_URL: meta.url, ...PLATFORM, ...env })
  const { app, databaseUrl } = service
  const { database: { orm }, vault, metaApps, metaGraph, tokenWatch, tenantConfigs, configLoader, env: settings } = app
  const told: Transition[] = []
  tokenWatch.onTransition((transition) => { told.push(transition) })
  const sql = async (text: string, values: unknown[] = []) => await query(databaseUrl, text, values)

  /** Looks once for all that is due. */
  async function look (): Promise<void> {
    const monitor = createTokenMonitor({ orm, vault, metaApps, metaGraph, tokenWatch, interval: settings.TOKEN_CHECK_INTERVAL_MS, timeoutMs: settings.GRAPH_TIMEOUT_MS, log: app.log })
    monitor.start()
    await monitor.closed()
    monitor.close()
  }

  return {
    ...service,
    env: { DATABASE_URL, GRAPH_API_BASE_URL: meta.url, ...PLATFORM, ...env },
    tokenWatch,
    tenantConfigs,
    configLoader,
    told,
    sql,
    look,
    store: async (tenant: string, token: string, more: object = {}) => await tenantConfigs.create(tenant, null, { access_token: token, ...more }),
    /** Makes every token due, and looks. */
    async again (): Promise<void> {
      await sql('update token_watch set next_check_at = now()')
      await look()
    },
    /** What is known of a tenant's token, and in how many milliseconds it is due. */
    async known (tenant: string) {
      const { next_check_at: next, ...health } = await tokenWatch.healthOf(tenant) ?? { next_check_at: null }
      return { ...health, wait: Date.parse(String(next)) - Date.now() }
    }
  }
}

/** That a wait is the expected one, but for the time that went by. */
const near = (t: Test, wait: number, expected: number) => { t.ok(Math.abs(wait - expected) < 20_000, `${wait} ms is about ${expected} ms`) }

await t.test('two instances check 200 due tokens, each of them once', async (t) => {
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

await t.test('what a killed process had claimed comes due again', async (t) => {
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

await t.test('a check that was overtaken changes nothing', async (t) => {
  const { store, look, known, tenantConfigs, tokenWatch, told, sql } = await watched(t)
  const overtakes: Array<[string, (sealed: string) => Promise<unknown>, string]> = [
    ['a new token', async () => await tenantConfigs.update('acme', { access_token: 'newer' }), 'unverified'],
    ['the same token, written again', async () => await tenantConfigs.update('acme', { access_token: asked()[0] ?? null }), 'unverified'],
    ['a newer finding', async (sealed) => await tokenWatch.note('acme', sealed, { valid: false, reason: 'PARTNER_REMOVED' }), 'revoked'],
    ['no token', async () => await tenantConfigs.update('acme', { access_token: null }), 'unverified']
  ]
  // Of the last two calls the second is the one for a longer token.
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

await t.test('a token that ends soon is extended', async (t) => {
  const { store, look, known, tenantConfigs, configLoader, sql, told } = await watched(t)
  for (const type of ['SYSTEM_USER', 'USER'] as const) {
    meta.requests.length = 0
    const old = issue({ expires_in: 10 * S_PER_DAY, type })
    await store(type, old)
    await sql("update tenant_configs set onboarding_completed = true, last_verified_at = '2026-01-01Z' where tenant_id = $1", [type])
    t.equal((await configLoader.forTenant(type)).getAccessToken(), old)
    await look()
    const renewed = (await configLoader.forTenant(type)).getAccessToken()
    t.not(renewed, old, 'the loader knows')
    t.ok(meta.state.tokens.has(String(renewed)))
    t.match(await tenantConfigs.find(type), { onboarding_completed: true, last_verified_at: '2026-01-01T00:00:00Z' })
    const { wait, token_expires_at: expiry, ...health } = await known(type)
    t.match(health, { token_status: 'ok', reason: null })
    near(t, wait, DAY)
    near(t, Date.parse(String(expiry)) - Date.now(), 5183944_000)
    t.same(meta.requests.map(({ route, form }) => [route, form['set_token_expires_in_60_days']]), [
      ['debug_token', undefined], ['extend', type === 'USER' ? undefined : 'true'], ['debug_token', undefined]
    ])
    t.same(asked(), [old, renewed])
  }
  t.same(told, [])
})

await t.test('a token that cannot be extended is expiring, and that is told', async (t) => {
  const { store, look, again, known, tenantConfigs, told, log } = await watched(t)
  const refusals: Array<[string, Fault | undefined, Fault | undefined]> = [
    ['Meta refuses', undefined, undefined],
    ['Meta fails', { reply: temporarilyDown() }, undefined],
    ['what it grants is not valid', {}, { patch: { data: { is_valid: false } } }],
    ['what it grants lives no longer', {}, { patch: { data: { expires_at: Math.floor(Date.now() / 1000) + 9 * S_PER_DAY } } }]
  ]
  for (const [what, extension, inspection] of refusals) {
    const { access_token: sealed } = await store(what, issue({ expires_in: 10 * S_PER_DAY, extendable: extension !== undefined }))
    if (extension !== undefined) meta.fail('extend', extension)
    meta.fail('debug_token', {})
    if (inspection !== undefined) meta.fail('debug_token', inspection)
    await look()
    meta.clearFaults()
    t.match(await known(what), { token_status: 'expiring', reason: 'expires_within_14_days' }, what)
    t.match(await tenantConfigs.find(what), { access_token: sealed })
  }
  t.match(told.map(({ type, tenant_id: tenant }) => [type, tenant]), refusals.map(([what]) => ['token.expiring', what]))
  t.equal(log().split('a token that ends soon was not extended').length, 4)
  const [first = ['']] = refusals
  await again()
  t.match(await known(first[0]), { token_status: 'expiring' })
  t.equal(told.filter(({ tenant_id: tenant, type }) => tenant === first[0] && type === 'token.expiring').length, 1, 'once')
  t.match(told.slice(4).map(({ type }) => type), Array(3).fill('token.recovered'), 'the others are extended now')
})

await t.test('each way in which Meta calls a token invalid', async (t) => {
  const { store, look, again, known, told } = await watched(t)
  const expiry = { token_expires_at: '2100-01-01T00:00:00Z' }
  const reasons: Record<string, string> = { garbage: 'meta_190', foreign: 'other_app', bare: 'meta_invalid' }
  for (const subcode of [458, 459, 460, 463, 464, 467, 492]) {
    const token = issue()
    Object.assign(meta.state.tokens.get(token) ?? {}, { revoked: subcode })
    reasons[subcode] = `meta_190_${subcode}`
    await store(String(subcode), token, expiry)
  }
  await store('garbage', 'no token of Meta’s', expiry)
  await store('foreign', issue({ app_id: own.app_id }), expiry)
  await look()
  await store('bare', issue(), expiry)
  meta.fail('debug_token', { patch: { data: { is_valid: false } } })
  await look()
  for (const [tenant, reason] of Object.entries(reasons)) {
    const { wait, ...health } = await known(tenant)
    t.match(health, { token_status: 'revoked', reason, token_expires_at: '2100-01-01T00:00:00Z' })
    near(t, wait, DAY)
  }
  t.same(told.map(({ type, tenant_id: tenant }) => `${type} ${tenant}`).sort(), Object.keys(reasons).map((tenant) => `token.revoked ${tenant}`).sort())
  await again()
  t.match(await known('460'), { token_status: 'reauth_required', reason: 'meta_190_460' })
  t.match(await known('bare'), { token_status: 'ok', reason: null })
  await again()
  t.match(told.filter(({ tenant_id: tenant }) => tenant === '460').map(({ type }) => type), ['token.revoked', 'token.reauth_required'])
  t.match(told.filter(({ tenant_id: tenant }) => tenant === 'bare').map(({ type }) => type), ['token.revoked', 'token.recovered'])
})

await t.test('a new token that is well recovers the tenant', async (t) => {
  const { store, look, told, tenantConfigs, known } = await watched(t)
  const expired = issue({ expires_in: -60 })
  await store('acme', expired, { token_expires_at: new Date(Date.now() - 60_000).toISOString() })
  await look()
  t.match(await known('acme'), { token_status: 'expired', reason: 'meta_190_463' })
  const token = issue({ expires_in: 0 })
  await tenantConfigs.update('acme', { access_token: token })
  await look()
  t.match(await known('acme'), { token_status: 'ok', token_expires_at: null })
  t.match(told.map(({ type, from, to }) => [type, from, to]), [['token.expired', 'unverified', 'expired'], ['token.recovered', 'expired', 'ok']])
})

await t.test('what passes leaves the status as it is, but for a token that its own date ends', async (t) => {
  const { store, look, again, known, told } = await watched(t, { GRAPH_TIMEOUT_MS: 300 })
  await store('well', issue({ expires_in: 0 }))
  await look()
  await store('new', issue())
  await store('over', issue(), { token_expires_at: new Date(Date.now() - 1000).toISOString() })
  const passing: Fault[] = [{ reply: temporarilyDown() }, faults.badGateway, faults.dropBefore, { latency_ms: 60_000 }, faults.unreadable]
  for (const [i, fault] of passing.entries()) {
    meta.fail('debug_token', { ...fault, times: Infinity })
    await again()
    meta.clearFaults()
    for (const [tenant, status] of [['well', 'ok'], ['new', 'unverified']] as const) {
      const { wait, ...health } = await known(tenant)
      t.match(health, { token_status: status, reason: null })
      near(t, wait, FIVE_MINUTES)
    }
    t.match(await known('over'), { token_status: i === 0 ? 'expired' : 'reauth_required', reason: 'date_passed' })
  }
  t.same(told.map(({ type, tenant_id: tenant }) => [type, tenant]), [['token.expired', 'over'], ['token.reauth_required', 'over']])
  // What Meta leaves out of the expiry is what was stored.
  meta.fail('debug_token', { patch: { data: { expires_at: undefined } }, times: Infinity })
  await again()
  t.match(await known('over'), { token_status: 'reauth_required' })
  t.match(await known('new'), { token_status: 'ok', token_expires_at: null })
})

await t.test('a fault of one tenant is its own', async (t) => {
  const { app, store, look, again, known, told, sql, log } = await watched(t, { FB_APP_ID: '', FB_APP_SECRET: '' })
  const pair = { fb_app_id: own.app_id, fb_app_secret: own.app_secret }
  const token = () => issue({ app_id: own.app_id })
  await store('without app', token())
  await store('unreadable', token(), pair)
  await store('unreadable secret', token(), pair)
  await store('rejected', token(), { ...pair, fb_app_secret: 'another secret' })
  await store('raising', token(), pair)
  await store('over', token(), { token_expires_at: '2020-01-01T00:00:00Z' })
  await store('well', token(), pair)
  await look()
  await sql("update tenant_configs set access_token = 'v1.t1.tampered' where tenant_id = 'unreadable'")
  await sql("update tenant_configs set fb_app_secret = access_token where tenant_id = 'unreadable secret'")
  await sql(`create function raise() returns trigger language plpgsql as $$ begin raise 'poisoned'; end $$;
    create trigger raise before update of status on token_watch for each row when (new.tenant_id = 'raising' and new.next_check_at > now()) execute function raise()`)
  await again()
  for (const [tenant, status, reason, wait] of [
    ['without app', 'unverified', 'no_app', HOUR],
    ['unreadable', 'unverified', 'unreadable', HOUR],
    ['unreadable secret', 'unverified', 'unreadable', HOUR],
    ['rejected', 'unverified', 'app_rejected', HOUR],
    ['over', 'reauth_required', 'date_passed', DAY],
    ['raising', 'ok', null, 10 * 35_000],
    ['well', 'ok', null, DAY]
  ] as const) {
    const health = await known(tenant)
    t.match(health, { token_status: status, reason }, tenant)
    near(t, health.wait, wait)
  }
  t.same(told.map(({ type, tenant_id: tenant }) => [type, tenant]), [['token.expired', 'over'], ['token.reauth_required', 'over']])
  t.match(log(), '"tenant_id":"raising","msg":"the check of a token failed; it is tried again"')
  t.equal(app.env.TOKEN_CHECK_INTERVAL_MS, DAY)
})

/** The answer to a question about a good token, with what Meta says of its limits. */
function withUsage (percent: number, more: Record<string, string> = {}): Fault {
  const body = JSON.stringify({ data: { is_valid: true, app_id: platform.id, expires_at: 0 } })
  return { times: Infinity, reply: { status: 200, headers: { 'x-app-usage': JSON.stringify({ call_count: percent, total_time: 1, total_cputime: 1 }), ...more }, body } }
}

await t.test('the nearer Meta\'s limits, the slower it is', async (t) => {
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
  // Two pauses each; a timer may be a millisecond early.
  t.ok(await took(76) >= 2 * 400 - 4)
  t.ok(await took(79) >= 2 * 1000 - 4)
})

await t.test('at Meta\'s limits it asks nothing more of the app', async (t) => {
  const account = JSON.stringify({ 1: [{ type: 'whatsapp', call_count: 1, estimated_time_to_regain_access: 20 }] })
  const limits: Array<[Fault, number]> = [
    [{ reply: throttled(4) }, FIVE_MINUTES],
    [{ reply: throttled(80007) }, FIVE_MINUTES],
    [{ reply: new GraphError(400, 80008, 'too many') }, FIVE_MINUTES],
    [withUsage(100), FIVE_MINUTES],
    [withUsage(1, { 'x-business-use-case-usage': account }), 20 * 60_000]
  ]
  for (const [limit, wait] of limits) {
    const { store, look, known } = await watched(t)
    meta.requests.length = 0
    const first = issue()
    await store('first', first)
    meta.fail('debug_token', { ...limit, times: 1 })
    await look()
    for (const tenant of ['second', 'third']) await store(tenant, issue())
    await store('over', issue(), { token_expires_at: '2020-01-01T00:00:00Z' })
    const other = issue({ app_id: own.app_id })
    await store('another app', other, { fb_app_id: own.app_id, fb_app_secret: own.app_secret })
    await look()
    t.same(asked(), [first, other])
    for (const tenant of ['second', 'third']) {
      const { wait: found, ...health } = await known(tenant)
      near(t, found, wait)
      t.match(health, { token_status: 'unverified', checked_at: null })
    }
    t.match(await known('another app'), { token_status: 'ok' })
    t.match(await known('over'), { token_status: 'expired' })
  }
})

await t.test('it looks again and again, and a database that is away is only an interruption', async (t) => {
  const { databaseUrl, env, store, told } = await watched(t)
  const token = issue({ expires_in: 0 })
  await store('acme', token)
  const { log, app } = await buildTestApp(t, { ...env, TOKEN_CHECK_INTERVAL_MS: 100 })
  app.tokenWatch.onTransition((transition) => { told.push(transition) })
  await until(() => asked().length > 2)
  const giveBack = await takeAway(databaseUrl)
  await until(() => log().includes('the token monitor could not look for tokens that are due'))
  Object.assign(meta.state.tokens.get(token) ?? {}, { revoked: 460 })
  await giveBack()
  await until(() => told.length >= 2)
  t.match(told.map(({ type }) => type), ['token.revoked', 'token.reauth_required'])
})

await t.test('closing waits neither for Meta nor for a pause, and gives back what was claimed', async (t) => {
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
    if (slow === 'pause') await until(async () => (await sql('select from token_watch where checked_at is not null')).length === 1)
    const began = performance.now()
    await app.close()
    t.ok(performance.now() - began < 3000)
    t.equal(asked().length, 1)
    t.equal(await due(), slow === 'pause' ? 2 : 3)
    t.notMatch(log(), 'the check of a token failed')
  }
})

await t.test('a token that goes, or is checked, before its turn is left alone', async (t) => {
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
