import t from '../run/tap.js'
import { temporarilyDown } from '../graph/errors.js'
import type { Fault } from '../graph/faults.js'
import { DAY, HOUR, assertNear, S_PER_DAY, watch } from './watch.js'

const { meta, issue, asked, startService, reset } = await watch(t)
t.beforeEach(reset)

await t.test('a token that expires within 14 days is extended', async (t) => {
  const { store, poll, healthOf, tenantConfigs, configLoader, sql, transitions } = await startService(t)
  for (const type of ['SYSTEM_USER', 'USER'] as const) {
    meta.requests.length = 0
    const old = issue({ expires_in: 10 * S_PER_DAY, type })
    await store(type, old)
    await sql(
      "update tenant_configs set onboarding_completed = true, last_verified_at = '2026-01-01Z' where tenant_id = $1",
      [type]
    )
    t.equal((await configLoader.forTenant(type)).getAccessToken(), old)
    await poll()
    const renewed = (await configLoader.forTenant(type)).getAccessToken()
    t.not(renewed, old, 'the loader returns the new token')
    t.ok(meta.state.tokens.has(String(renewed)))
    t.match(await tenantConfigs.find(type), {
      onboarding_completed: true,
      last_verified_at: '2026-01-01T00:00:00.000000Z'
    })
    const { wait, token_expires_at: expiry, ...health } = await healthOf(type)
    t.match(health, { token_status: 'ok', reason: null })
    assertNear(t, wait, DAY)
    assertNear(t, Date.parse(String(expiry)) - Date.now(), 5183944_000)
    t.same(meta.requests.map(({ route, form }) => [route, form['set_token_expires_in_60_days']]), [
      ['debug_token', undefined], ['extend', type === 'USER' ? undefined : 'true'], ['debug_token', undefined]
    ])
    t.same(asked(), [old, renewed])
  }
  t.same(transitions, [])
})

await t.test('a token that expires within a day is checked again and extended before it expires', async (t) => {
  const { store, poll, pollAll, healthOf, tokenWatch, transitions } = await startService(t)
  // The same finding that an onboarding records.
  const expires_at = new Date(Date.now() + HOUR).toISOString()
  const { access_token: sealed } = await store('short', issue({ expires_in: 3600, type: 'USER' }))
  await tokenWatch.record('short', String(sealed), { valid: true, expires_at })
  await store('late', issue({ expires_in: 20 * 3600 }))
  meta.fail('extend', { reply: temporarilyDown() })
  await poll()
  for (const [tenant, wait] of [['short', HOUR / 2], ['late', 10 * HOUR]] as const) {
    const health = await healthOf(tenant)
    t.match(health, { token_status: 'expiring', reason: 'expires_within_1_day' })
    assertNear(t, health.wait, wait)
  }
  await pollAll()
  for (const tenant of ['short', 'late']) t.match(await healthOf(tenant), { token_status: 'ok' })
  t.same(transitions.map(({ type }) => type).sort(), [
    'token.expiring', 'token.expiring', 'token.recovered', 'token.recovered'
  ])
})

await t.test('a token that cannot be extended is expiring, and the transition is emitted once', async (t) => {
  const { store, poll, pollAll, healthOf, tenantConfigs, transitions, log } = await startService(t)
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
    await poll()
    meta.clearFaults()
    t.match(await healthOf(what), { token_status: 'expiring', reason: 'expires_within_14_days' }, what)
    t.match(await tenantConfigs.find(what), { access_token: sealed })
  }
  t.match(
    transitions.map(({ type, tenant_id: tenant }) => [type, tenant]),
    refusals.map(([what]) => ['token.expiring', what])
  )
  t.equal(log().split('a token that ends soon was not extended').length, 4)
  const [first = ['']] = refusals
  await pollAll()
  t.match(await healthOf(first[0]), { token_status: 'expiring' })
  t.equal(
    transitions.filter(({ tenant_id: tenant, type }) => tenant === first[0] && type === 'token.expiring').length,
    1,
    'a repeated failure emits no second transition'
  )
  t.match(transitions.slice(4).map(({ type }) => type), Array(3).fill('token.recovered'), 'the others are extended')
})
