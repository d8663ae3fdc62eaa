import t from '../run/tap.js'
import { temporarilyDown } from '../graph/errors.js'
import { faults, type Fault } from '../graph/faults.js'
import { DAY, FIVE_MINUTES, HOUR, near, S_PER_DAY, watch } from './watch.js'

const { meta, own, issue, asked, watched, reset } = await watch(t)
t.beforeEach(reset)

await t.test('a token that expires within 14 days is extended', async (t) => {
  const { store, look, known, tenantConfigs, configLoader, sql, told } = await watched(t)
  for (const type of ['SYSTEM_USER', 'USER'] as const) {
    meta.requests.length = 0
    const old = issue({ expires_in: 10 * S_PER_DAY, type })
    await store(type, old)
    await sql(
      "update tenant_configs set onboarding_completed = true, last_verified_at = '2026-01-01Z' where tenant_id = $1",
      [type]
    )
    t.equal((await configLoader.forTenant(type)).getAccessToken(), old)
    await look()
    const renewed = (await configLoader.forTenant(type)).getAccessToken()
    t.not(renewed, old, 'the loader knows')
    t.ok(meta.state.tokens.has(String(renewed)))
    t.match(await tenantConfigs.find(type), {
      onboarding_completed: true,
      last_verified_at: '2026-01-01T00:00:00.000000Z'
    })
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

await t.test('a token that expires within a day is checked again and extended before it expires', async (t) => {
  const { store, look, again, known, tokenWatch, told } = await watched(t)
  // The same finding that an onboarding records.
  const expires_at = new Date(Date.now() + HOUR).toISOString()
  const { access_token: sealed } = await store('short', issue({ expires_in: 3600, type: 'USER' }))
  await tokenWatch.record('short', String(sealed), { valid: true, expires_at })
  await store('late', issue({ expires_in: 20 * 3600 }))
  meta.fail('extend', { reply: temporarilyDown() })
  await look()
  for (const [tenant, wait] of [['short', HOUR / 2], ['late', 10 * HOUR]] as const) {
    const health = await known(tenant)
    t.match(health, { token_status: 'expiring', reason: 'expires_within_1_day' })
    near(t, health.wait, wait)
  }
  await again()
  for (const tenant of ['short', 'late']) t.match(await known(tenant), { token_status: 'ok' })
  t.same(told.map(({ type }) => type).sort(), [
    'token.expiring', 'token.expiring', 'token.recovered', 'token.recovered'
  ])
})

await t.test('a token that cannot be extended is expiring, and the transition is emitted once', async (t) => {
  const { store, look, again, known, tenantConfigs, told, log } = await watched(t)
  const refusals: Array<[string, Fault | undefined, Fault | undefined]> = [
    ['Meta refuses', undefined, undefined],
    ['Meta fails', { reply: temporarilyDown() }, undefined],
    ['what it grants is not valid', {}, { patch: { data: { is_valid: false } } }],
    [
      'what it grants lives no longer',
      {},
      { patch: { data: { expires_at: Math.floor(Date.now() / 1000) + 9 * S_PER_DAY } } }
    ]
  ]
  for (const [what, extension, inspection] of refusals) {
    const { access_token: sealed } = await store(
      what,
      issue({ expires_in: 10 * S_PER_DAY, extendable: extension !== undefined })
    )
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
  t.equal(
    told.filter(({ tenant_id: tenant, type }) => tenant === first[0] && type === 'token.expiring').length,
    1,
    'once'
  )
  t.match(told.slice(4).map(({ type }) => type), Array(3).fill('token.recovered'), 'the others are extended now')
})

await t.test('a token that Meta reports as invalid is revoked with the reason of Meta', async (t) => {
  const { store, look, again, known, told } = await watched(t)
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
  await look()
  await store('bare', issue(), expiry)
  meta.fail('debug_token', { patch: { data: { is_valid: false } } })
  await look()
  for (const [tenant, reason] of Object.entries(reasons)) {
    const { wait, ...health } = await known(tenant)
    t.match(health, { token_status: 'revoked', reason, token_expires_at: '2100-01-01T00:00:00.000000Z' })
    near(t, wait, DAY)
  }
  t.same(
    told.map(({ type, tenant_id: tenant }) => `${type} ${tenant}`).sort(),
    Object.keys(reasons).map((tenant) => `token.revoked ${tenant}`).sort()
  )
  await again()
  t.match(await known('460'), { token_status: 'reauth_required', reason: 'meta_190_460' })
  t.match(await known('bare'), { token_status: 'ok', reason: null })
  await again()
  t.match(
    told.filter(({ tenant_id: tenant }) => tenant === '460').map(({ type }) => type),
    ['token.revoked', 'token.reauth_required']
  )
  t.match(
    told.filter(({ tenant_id: tenant }) => tenant === 'bare').map(({ type }) => type),
    ['token.revoked', 'token.recovered']
  )
})

await t.test('a valid new token recovers the tenant', async (t) => {
  const { store, look, told, tenantConfigs, known } = await watched(t)
  const expired = issue({ expires_in: -60 })
  await store('acme', expired, { token_expires_at: new Date(Date.now() - 60_000).toISOString() })
  await look()
  t.match(await known('acme'), { token_status: 'expired', reason: 'meta_190_463' })
  const token = issue({ expires_in: 0 })
  await tenantConfigs.update('acme', { access_token: token })
  await look()
  t.match(await known('acme'), { token_status: 'ok', token_expires_at: null })
  t.match(told.map(({ type, from, to }) => [type, from, to]), [
    ['token.expired', 'unverified', 'expired'], ['token.recovered', 'expired', 'ok']
  ])
})

await t.test('a transient failure keeps the status, unless the stored expiry has passed', async (t) => {
  const { store, look, again, known, told } = await watched(t, { GRAPH_TIMEOUT_MS: 300 })
  await store('well', issue({ expires_in: 0 }))
  await look()
  await store('new', issue())
  await store('over', issue(), { token_expires_at: new Date(Date.now() - 1000).toISOString() })
  const passing: Fault[] = [
    { reply: temporarilyDown() }, faults.badGateway, faults.dropBefore, { latency_ms: 60_000 }, faults.unreadable
  ]
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
  t.same(told.map(({ type, tenant_id: tenant }) => [type, tenant]), [
    ['token.expired', 'over'], ['token.reauth_required', 'over']
  ])
  // If Meta reports no expiry, the stored one applies.
  meta.fail('debug_token', { patch: { data: { expires_at: undefined } }, times: Infinity })
  await again()
  t.match(await known('over'), { token_status: 'reauth_required' })
  t.match(await known('new'), { token_status: 'ok', token_expires_at: null })
})

await t.test('a fault of one tenant does not affect the checks of others', async (t) => {
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
  t.same(told.map(({ type, tenant_id: tenant }) => [type, tenant]), [
    ['token.expired', 'over'], ['token.reauth_required', 'over']
  ])
  t.match(log(), '"tenant_id":"raising","msg":"the check of a token failed; it is tried again"')
  t.equal(app.env.TOKEN_CHECK_INTERVAL_MS, DAY)
})

await t.test('a fault keeps the state of an invalid token and emits no transition again', async (t) => {
  const { store, look, again, known, told, tenantConfigs } = await watched(t)
  const pair = { fb_app_id: own.app_id, fb_app_secret: own.app_secret }
  const dead = issue({ app_id: own.app_id })
  Object.assign(meta.state.tokens.get(dead) ?? {}, { revoked: 460 })
  await store('dead', dead, pair)
  await store('over', issue({ app_id: own.app_id, expires_in: -60 }), pair)
  await look()
  const checkWith = async (fb_app_secret: string) => {
    for (const tenant of ['dead', 'over']) await tenantConfigs.update(tenant, { fb_app_secret })
    await again()
  }
  for (const [revoked, expired] of [
    ['revoked', 'expired'], ['reauth_required', 'reauth_required'], ['reauth_required', 'reauth_required']
  ] as const) {
    const { checked_at } = await known('dead')
    await checkWith('another secret')
    const { wait, ...health } = await known('dead')
    t.match(health, { token_status: revoked, reason: 'meta_190_460' })
    t.equal(
      Date.parse(String(health.checked_at)),
      Date.parse(String(checked_at)) - HOUR,
      'aged by the test, and not looked at'
    )
    near(t, wait, HOUR)
    t.match(await known('over'), { token_status: expired, reason: 'meta_190_463' })
    await checkWith(own.app_secret)
  }
  for (const [tenant, status] of [['dead', 'revoked'], ['over', 'expired']] as const) {
    t.same(
      told.filter(({ tenant_id }) => tenant_id === tenant).map(({ type }) => type),
      [`token.${status}`, 'token.reauth_required']
    )
  }
})
