import t from '../run/tap.js'
import { temporarilyDown } from '../graph/errors.js'
import { faults, type Fault } from '../graph/faults.js'
import { DAY, FIVE_MINUTES, HOUR, assertNear, watch } from './watch.js'

const { meta, own, issue, startService, reset } = await watch(t)
t.beforeEach(reset)

await t.test('a token that Meta reports as invalid is revoked with the reason of Meta', async (t) => {
  const { store, poll, pollAll, healthOf, transitions } = await startService(t)
  const expiry = { token_expires_at: '2100-01-01T00:00:00.000000Z' }
  const reasons: Record<string, string> = { garbage: 'meta_190', foreign: 'other_app', bare: 'meta_invalid' }
  for (const subcode of [458, 459, 460, 463, 464, 467, 492]) {
    const token = issue()
    Object.assign(meta.state.tokens.get(token) ?? {}, { revoked: subcode })
    reasons[subcode] = `meta_190_${subcode}`
    await store(String(subcode), token, expiry)
  }
  await store('garbage', 'no token of Meta’s', expiry)
  await store('foreign', issue({ app_id: own.app_id }), expiry)
  await poll()
  await store('bare', issue(), expiry)
  meta.fail('debug_token', { patch: { data: { is_valid: false } } })
  await poll()
  for (const [tenant, reason] of Object.entries(reasons)) {
    const { wait, ...health } = await healthOf(tenant)
    t.match(health, { token_status: 'revoked', reason, token_expires_at: '2100-01-01T00:00:00.000000Z' })
    assertNear(t, wait, DAY)
  }
  t.same(
    transitions.map(({ type, tenant_id: tenant }) => `${type} ${tenant}`).sort(),
    Object.keys(reasons).map((tenant) => `token.revoked ${tenant}`).sort()
  )
  await pollAll()
  t.match(await healthOf('460'), { token_status: 'reauth_required', reason: 'meta_190_460' })
  t.match(await healthOf('bare'), { token_status: 'ok', reason: null })
  await pollAll()
  t.match(
    transitions.filter(({ tenant_id: tenant }) => tenant === '460').map(({ type }) => type),
    ['token.revoked', 'token.reauth_required']
  )
  t.match(
    transitions.filter(({ tenant_id: tenant }) => tenant === 'bare').map(({ type }) => type),
    ['token.revoked', 'token.recovered']
  )
})

await t.test('a valid new token recovers the tenant', async (t) => {
  const { store, poll, transitions, tenantConfigs, healthOf } = await startService(t)
  const expired = issue({ expires_in: -60 })
  await store('acme', expired, { token_expires_at: new Date(Date.now() - 60_000).toISOString() })
  await poll()
  t.match(await healthOf('acme'), { token_status: 'expired', reason: 'meta_190_463' })
  const token = issue({ expires_in: 0 })
  await tenantConfigs.update('acme', { access_token: token })
  await poll()
  t.match(await healthOf('acme'), { token_status: 'ok', token_expires_at: null })
  t.match(transitions.map(({ type, from, to }) => [type, from, to]), [
    ['token.expired', 'unverified', 'expired'], ['token.recovered', 'expired', 'ok']
  ])
})

await t.test('a transient failure keeps the status, unless the stored expiry has passed', async (t) => {
  const { store, poll, pollAll, healthOf, transitions } = await startService(t, { GRAPH_TIMEOUT_MS: 300 })
  await store('well', issue({ expires_in: 0 }))
  await poll()
  await store('new', issue())
  await store('over', issue(), { token_expires_at: new Date(Date.now() - 1000).toISOString() })
  const passing: Fault[] = [
    { reply: temporarilyDown() }, faults.badGateway, faults.dropBefore, { latency_ms: 60_000 }, faults.unreadable
  ]
  for (const [i, fault] of passing.entries()) {
    meta.fail('debug_token', { ...fault, times: Infinity })
    await pollAll()
    meta.clearFaults()
    for (const [tenant, status] of [['well', 'ok'], ['new', 'unverified']] as const) {
      const { wait, ...health } = await healthOf(tenant)
      t.match(health, { token_status: status, reason: null })
      assertNear(t, wait, FIVE_MINUTES)
    }
    t.match(await healthOf('over'), { token_status: i === 0 ? 'expired' : 'reauth_required', reason: 'date_passed' })
  }
  t.same(transitions.map(({ type, tenant_id: tenant }) => [type, tenant]), [
    ['token.expired', 'over'], ['token.reauth_required', 'over']
  ])
  // If Meta reports no expiry, the stored one applies.
  meta.fail('debug_token', { patch: { data: { expires_at: undefined } }, times: Infinity })
  await pollAll()
  t.match(await healthOf('over'), { token_status: 'reauth_required' })
  t.match(await healthOf('new'), { token_status: 'ok', token_expires_at: null })
})

await t.test('a fault of one tenant does not affect the checks of others', async (t) => {
  const {
    app, store, poll, pollAll, healthOf, transitions, sql, log
  } = await startService(t, { FB_APP_ID: '', FB_APP_SECRET: '' })
  const pair = { fb_app_id: own.app_id, fb_app_secret: own.app_secret }
  const token = () => issue({ app_id: own.app_id })
  await store('without app', token())
  await store('unreadable', token(), pair)
  await store('unreadable secret', token(), pair)
  await store('rejected', token(), { ...pair, fb_app_secret: 'another secret' })
  await store('raising', token(), pair)
  await store('over', token(), { token_expires_at: '2020-01-01T00:00:00Z' })
  await store('well', token(), pair)
  await poll()
  await sql("update tenant_configs set access_token = 'v1.t1.tampered' where tenant_id = 'unreadable'")
  await sql("update tenant_configs set fb_app_secret = access_token where tenant_id = 'unreadable secret'")
  await sql(`create function raise() returns trigger language plpgsql as $$ begin raise 'poisoned'; end $$;
    create trigger raise before update of status on token_watch for each row
      when (new.tenant_id = 'raising' and new.next_check_at > now()) execute function raise()`)
  await pollAll()
  for (const [tenant, status, reason, wait] of [
    ['without app', 'unverified', 'no_app', HOUR],
    ['unreadable', 'unverified', 'unreadable', HOUR],
    ['unreadable secret', 'unverified', 'unreadable', HOUR],
    ['rejected', 'unverified', 'app_rejected', HOUR],
    ['over', 'reauth_required', 'date_passed', DAY],
    ['raising', 'ok', null, 90_000],
    ['well', 'ok', null, DAY]
  ] as const) {
    const health = await healthOf(tenant)
    t.match(health, { token_status: status, reason }, tenant)
    assertNear(t, health.wait, wait)
  }
  t.same(transitions.map(({ type, tenant_id: tenant }) => [type, tenant]), [
    ['token.expired', 'over'], ['token.reauth_required', 'over']
  ])
  t.match(log(), '"tenant_id":"raising","msg":"the check of a token failed; it is tried again"')
  t.equal(app.env.TOKEN_CHECK_INTERVAL_MS, DAY)
})

await t.test('a fault keeps the state of an invalid token and emits no transition again', async (t) => {
  const { store, poll, pollAll, healthOf, transitions, tenantConfigs } = await startService(t)
  const pair = { fb_app_id: own.app_id, fb_app_secret: own.app_secret }
  const revokedToken = issue({ app_id: own.app_id })
  Object.assign(meta.state.tokens.get(revokedToken) ?? {}, { revoked: 460 })
  await store('dead', revokedToken, pair)
  await store('over', issue({ app_id: own.app_id, expires_in: -60 }), pair)
  await poll()
  const checkWith = async (fb_app_secret: string) => {
    for (const tenant of ['dead', 'over']) await tenantConfigs.update(tenant, { fb_app_secret })
    await pollAll()
  }
  for (const [revoked, expired] of [
    ['revoked', 'expired'], ['reauth_required', 'reauth_required'], ['reauth_required', 'reauth_required']
  ] as const) {
    const { checked_at } = await healthOf('dead')
    await checkWith('another secret')
    const { wait, ...health } = await healthOf('dead')
    t.match(health, { token_status: revoked, reason: 'meta_190_460' })
    t.equal(
      Date.parse(String(health.checked_at)),
      Date.parse(String(checked_at)) - HOUR,
      'the check does not change checked_at, which the test aged'
    )
    assertNear(t, wait, HOUR)
    t.match(await healthOf('over'), { token_status: expired, reason: 'meta_190_463' })
    await checkWith(own.app_secret)
  }
  for (const [tenant, status] of [['dead', 'revoked'], ['over', 'expired']] as const) {
    t.same(
      transitions.filter(({ tenant_id }) => tenant_id === tenant).map(({ type }) => type),
      [`token.${status}`, 'token.reauth_required']
    )
  }
})
