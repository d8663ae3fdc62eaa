import t from '../run/tap.js'
import { startWithMetaFault } from '../fixtures/fault-injection.js'
import { serverProcess } from '../fixtures/server-process.js'
import { assertNear, S_PER_DAY, usageReply, watch } from './watch.js'
import { baseEnv, buildTestApp, makeUnreachable, until } from '../helper.js'

// The child processes are slow on a busy machine.
t.setTimeout(300_000)

const { meta, issue, asked, startService, reset } = await watch(t)
t.beforeEach(reset)

await t.test('two instances check each of 200 due tokens once', async (t) => {
  const { store, sql, env } = await startService(t)
  const tokens = Array.from({ length: 200 }, () => issue())
  await Promise.all(tokens.map(async (token, i) => await store(`tenant ${i}`, token)))
  meta.fail('debug_token', { latency_ms: 5, times: Infinity })
  const instances = await Promise.all([buildTestApp(t, env), buildTestApp(t, env)])
  await until(async () => (await sql("select from token_watch where status = 'ok'")).length === 200)
  t.same(asked().sort(), tokens.sort())
  t.same(await sql('select from token_watch where next_check_at < now()'), [])
  for (const { log } of instances) {
    t.ok(log().split('a call of the Graph API succeeded').length > 20, 'both instances check tokens')
  }
})

await t.test('a token claimed by a killed process is due again when the claim expires', async (t) => {
  const { store, poll, healthOf, env, sql } = await startService(t, { GRAPH_TIMEOUT_MS: 60_000 })
  for (const tenant of ['one', 'two']) await store(tenant, issue())
  meta.fail('debug_token', { latency_ms: 60_000 })
  const { JWT_SECRET, ENCRYPTION_KEYS } = baseEnv
  const settings = { JWT_SECRET, ENCRYPTION_KEYS, GRAPH_TIMEOUT_MS: '60000', TOKEN_CHECK_CONCURRENCY: '1' }
  const server = await serverProcess(t, { ...env, ...settings })
  await until(async () =>
    asked().length === 1 && (await sql('select from token_watch where next_check_at <= now()')).length === 0)
  await server.end('SIGKILL')

  const lease = 2 * (3 * 60_000 + 15_000)
  for (const tenant of ['one', 'two']) assertNear(t, (await healthOf(tenant)).wait, lease)
  await poll()
  t.equal(asked().length, 1, 'a claimed token is not checked')
  await sql("update token_watch set next_check_at = next_check_at - $1 * interval '1 ms'", [lease])
  await poll()
  t.equal(asked().length, 3)
  for (const tenant of ['one', 'two']) t.match(await healthOf(tenant), { token_status: 'ok' })
})

await t.test('a check changes nothing if a newer write or finding is stored meanwhile', async (t) => {
  const { store, poll, healthOf, tenantConfigs, tokenWatch, transitions, sql } = await startService(t)
  const newerWrites: Array<[string, (sealed: string) => Promise<unknown>, string]> = [
    ['a new token', async () => await tenantConfigs.update('acme', { access_token: 'newer' }), 'unverified'],
    [
      'a newer finding',
      async (sealed) => await tokenWatch.record('acme', sealed, { valid: false, reason: 'PARTNER_REMOVED' }),
      'revoked'
    ],
    ['no token', async () => await tenantConfigs.update('acme', { access_token: null }), 'unverified']
  ]
  // The second call of the check of a token with 10 days left is its extension.
  for (const [left, route] of [[60, 'debug_token'], [10, 'extend']] as const) {
    for (const [what, write, status] of newerWrites) {
      meta.requests.length = 0
      const { access_token: sealed } = await store('acme', issue({ expires_in: left * S_PER_DAY }))
      const { answer: polling } = await startWithMetaFault(meta, route, { latency_ms: 400 }, poll)
      await write(String(sealed))
      const after = await sql('select * from tenant_configs')
      await polling
      t.match(await healthOf('acme'), { token_status: status }, what)
      t.same(await sql('select * from tenant_configs'), after, what)
      await tenantConfigs.remove('acme')
    }
  }
  t.same(transitions.map(({ type, reason }) => [type, reason]), Array(2).fill(['token.revoked', 'PARTNER_REMOVED']))
})

await t.test('a token of an inactive tenant is checked only after the activation, once', async (t) => {
  const { store, poll, pollAll, healthOf, tenantConfigs, tokenWatch, sql } = await startService(t)
  const [token, soon] = [issue(), issue({ expires_in: 10 * S_PER_DAY })]
  const { access_token: sealed } = await store('off', token)
  await poll()
  await store('ends', soon)
  for (const tenant of ['off', 'ends']) await tenantConfigs.setActive(tenant, false)
  reset()
  await poll()
  // It is not checked either if a statement without triggers makes it due, or if the row is written.
  await pollAll()
  await tenantConfigs.update('off', { token_expires_at: '2040-01-01T00:00:00Z', waba_id: '1' })
  await sql("insert into tenant_configs (tenant_id, access_token, is_active) values ('born off', $1, false)", [sealed])
  await poll()
  t.same(asked(), [])
  t.same(await sql('select tenant_id from token_watch where next_check_at < now()'), [])
  const health = { token_status: 'ok', token_expires_at: '2040-01-01T00:00:00.000000Z', next_check_at: null }
  t.match(await tokenWatch.healthOf('off'), health, 'the last finding is kept')
  t.equal(
    await tokenWatch.record('off', String(sealed), { valid: true, expires_at: null }),
    true,
    'a finding from outside the scheduler is recorded'
  )
  await poll()
  t.same(asked(), [])

  for (const tenant of ['off', 'ends']) await tenantConfigs.setActive(tenant, true)
  await poll()
  const extended = [...meta.state.tokens.keys()].at(-1)
  t.same(asked().sort(), [token, soon, extended].sort())
  for (const tenant of ['off', 'ends']) t.match(await healthOf(tenant), { token_status: 'ok' })
  await poll()
  t.equal(asked().length, 3)
})

await t.test('a new token of an inactive tenant is first checked after the activation', async (t) => {
  const { store, poll, healthOf, tenantConfigs } = await startService(t)
  await store('acme', issue())
  await tenantConfigs.setActive('acme', false)
  const token = issue()
  await tenantConfigs.update('acme', { access_token: token })
  await poll()
  t.same(asked(), [])
  t.match(await healthOf('acme'), { token_status: 'unverified', checked_at: null })
  await tenantConfigs.setActive('acme', true)
  await poll()
  t.same(asked(), [token])
})

await t.test('the scheduler polls at its interval and continues after a database outage', async (t) => {
  const { databaseUrl, env, store, transitions, sql } = await startService(t)
  const token = issue({ expires_in: 0 })
  await store('acme', token)
  const { log, app } = await buildTestApp(t, { ...env, TOKEN_CHECK_INTERVAL_MS: 100 })
  app.events.onEvent((transition) => { transitions.push(transition) })
  await until(() => asked().length > 2)
  // An interrupted check would be repeated only when its claim expires, so none must be due.
  await sql("update token_watch set next_check_at = now() + interval '1 hour'")
  const restore = await makeUnreachable(databaseUrl)
  await until(() => log().includes('the token monitor could not look for tokens that are due'))
  Object.assign(meta.state.tokens.get(token) ?? {}, { revoked: 460 })
  await restore()
  await sql('update token_watch set next_check_at = now()')
  await until(() => transitions.length >= 2)
  t.match(transitions.map(({ type }) => type), ['token.revoked', 'token.reauth_required'])
})

await t.test('a closing scheduler waits for no call or pause and releases its claims', async (t) => {
  for (const [slow, concurrency, calls, released] of [
    ['call', 2, 2, 3], ['extension', 2, 4, 3], ['pause', 1, 1, 2]
  ] as const) {
    meta.requests.length = 0
    meta.clearFaults()
    const limits = { GRAPH_TIMEOUT_MS: 60_000, TOKEN_CHECK_CONCURRENCY: concurrency }
    const { store, env, sql } = await startService(t, limits)
    for (const tenant of ['one', 'two', 'three']) await store(tenant, issue({ expires_in: 10 * S_PER_DAY }))
    if (slow === 'pause') meta.fail('debug_token', usageReply(99))
    else meta.fail(slow === 'call' ? 'debug_token' : 'extend', { latency_ms: 60_000, times: 2 })
    const { app, log } = await buildTestApp(t, env)
    const due = async () => (await sql('select from token_watch where next_check_at <= now()')).length
    // As many checks run as may at once, and one further token is claimed.
    await until(async () => meta.requests.length === calls && await due() === 0)
    const began = performance.now()
    await app.close()
    t.ok(performance.now() - began < 3000)
    t.equal(asked().length, concurrency)
    t.equal(await due(), released)
    t.notMatch(log(), 'the check of a token failed')
  }
})

await t.test('a token that is deleted or not due is not checked', async (t) => {
  const { store, poll, tenantConfigs, sql } = await startService(t, { TOKEN_CHECK_CONCURRENCY: 1 })
  const tokens = { one: issue(), two: issue() }
  for (const [tenant, token] of Object.entries(tokens)) await store(tenant, token)
  await tenantConfigs.create('bare', null, { waba_id: '1' })
  await sql("insert into token_watch (tenant_id) values ('bare'), ('nobody')")
  const { answer: polling } = await startWithMetaFault(meta, 'debug_token', { latency_ms: 400 }, poll)
  const [first] = asked()
  await sql('delete from tenant_configs where tenant_id = $1', [first === tokens.one ? 'two' : 'one'])
  await polling
  t.same(asked(), [first])
  await poll()
  t.same(asked(), [first], 'a token that is not due is not checked')
})
