import t from '../../run/tap.js'
import { faults, type Fault, type Route } from '../../graph/faults.js'
import { startCallback } from '../../graph/webhooks/callback-server.js'
import { app, pin, standIn } from '../wire.js'

const YES = ['true', 1, '1']
const NO = ['false', 0, '0', false]
// Each digit counts: as a JSON number, this id is beyond 2^53.
const WABA = '12345678901234567'
const PHONE = '98765432109876543'

/** The stand-in with one account whose ids are beyond 2^53, and every call to it. */
async function odd (t: Parameters<typeof standIn>[0]) {
  const { meta, graph } = await standIn(t)
  const url = await startCallback(t, (query, res) => { res.end(query.get('hub.challenge')) })
  meta.state.app(app.id).callback_url = 'https://platform.example/'
  meta.state.addBusiness({ id: '35000000000000001', owned_waba_ids: [WABA] })
  const waba = meta.state.addWaba({
    id: WABA,
    app_ids: [app.id],
    phones: [{ id: PHONE, display_phone_number: '16315555555', status: 'CONNECTED', is_on_biz_app: true }]
  })
  const scopes = ['whatsapp_business_management', 'business_management']
  const grant = { app_id: app.id, scopes, waba_ids: [WABA], business_ids: ['35000000000000001'] }
  const token = meta.state.issueToken({ ...grant, expires_in: 3600, data_access_expires_in: 7200 })
  const callback = { callback_url: url, verify_token: 'v' }
  const calls = {
    access_token: () => graph.exchangeCode(app, { code: meta.state.issueCode(grant) }),
    extend: () => graph.extendToken(app, token, { sixtyDays: true }),
    debug_token: () => graph.inspectToken(app, token),
    phone_numbers: () => graph.listPhoneNumbers(app, token, WABA),
    businesses: () => graph.listBusinessAccounts(app, token, AbortSignal.timeout(5000)),
    business_accounts: () => graph.listBusinessAccounts(app, token, AbortSignal.timeout(5000)),
    subscribe: () => graph.subscribeApp(app, token, WABA),
    override: () => graph.overrideCallback(app, token, WABA, callback),
    subscriptions: () => graph.subscriptionOf(app, token, WABA),
    phone_override: () => graph.overridePhoneCallback(app, token, PHONE, callback),
    phone: () => graph.effectiveCallback(app, token, PHONE),
    unsubscribe: () => graph.unsubscribeApp(app, token, WABA),
    register: () => {
      for (const phone of waba.phones) Object.assign(phone, { is_on_biz_app: false, attempts: [] })
      return graph.registerNumber(app, token, PHONE, pin)
    }
  } satisfies Partial<Record<Route, () => Promise<unknown>>>
  return { meta, graph, calls, token, url }
}

/** What a call returned, without what differs each time. */
const comparable = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null), (key, part) =>
  key === 'access_token' ? String(part).slice(0, 3) : key === 'expires_at' ? String(part).slice(0, 13) : part)

await t.test('an answer with other types means the same, for each call', async t => {
  const { meta, calls } = await odd(t)
  for (const [route, call] of Object.entries(calls) as Array<[Route, () => Promise<unknown>]>) {
    const usual = comparable(await call())
    for (const [name, fault] of Object.entries<Fault>({
      oddTypes: faults.oddTypes,
      numericTargets: faults.numericTargets,
      extraFields: faults.extraFields,
      success: { patch: (body) => body.success === undefined ? body : { success: 1 } }
    })) {
      meta.fail(route, fault)
      t.strictSame(comparable(await call()), usual, `${route} ${name}`)
    }
  }
})

await t.test('an answer with other types has every value of the documented one', async t => {
  const { meta, calls, url } = await odd(t)
  for (const route of ['debug_token', 'phone_numbers', 'business_accounts', 'subscriptions', 'phone'] as const) {
    meta.fail(route, { ...faults.oddTypes, times: Infinity })
  }
  await calls.subscribe()
  await calls.override()
  const inspected = await calls.debug_token()
  t.match(inspected, { type: 'SYSTEM_USER', scopes: ['whatsapp_business_management', 'business_management'] })
  t.strictSame(inspected.waba_ids, [WABA])
  t.ok(Math.abs(Date.parse(String(inspected.expires_at)) - Date.now() - 3600_000) < 10_000)
  t.ok(Math.abs(Date.parse(String(inspected.data_access_ends_at)) - Date.now() - 7200_000) < 10_000)
  t.strictSame(await calls.phone_numbers(), [{
    id: PHONE,
    display_phone_number: '16315555555',
    verified_name: 'Lucky Shrub',
    is_on_biz_app: true,
    platform_type: 'CLOUD_API',
    quality_rating: 'GREEN',
    status: 'CONNECTED'
  }])
  t.strictSame(await calls.business_accounts(), [WABA])
  t.strictSame(await calls.subscriptions(), { override_callback_uri: url })
  t.equal(await calls.phone(), url)
})

await t.test('a part that nothing depends on is null if it cannot be read', async t => {
  const { meta, calls } = await odd(t)
  const shown = async (patch: object) => {
    meta.fail('phone_numbers', { patch: { data: [{ id: PHONE, ...patch }] } })
    return (await calls.phone_numbers())[0]
  }
  for (const name of [
    'display_phone_number', 'verified_name', 'is_on_biz_app', 'platform_type', 'quality_rating', 'status'
  ]) {
    for (const value of [undefined, null, {}, { score: 'GREEN' }, [], ['x'], -1, 1.5]) {
      t.match(await shown({ [name]: value }), { id: PHONE, [name]: null }, `${name} ${JSON.stringify(value)}`)
    }
  }
  for (const yes of [...YES, true]) t.match(await shown({ is_on_biz_app: yes }), { is_on_biz_app: true })
  for (const no of NO) t.match(await shown({ is_on_biz_app: no }), { is_on_biz_app: false })
  for (const none of ['yes', 'TRUE', '', 2]) t.match(await shown({ is_on_biz_app: none }), { is_on_biz_app: null })
  t.match(await shown({ status: 'NEW_IN_2030', platform_type: 5 }), { status: 'NEW_IN_2030', platform_type: null })

  const inspected = async (data: object) => {
    meta.fail('debug_token', { patch: { data: { ...data } } })
    return await calls.debug_token()
  }
  for (const value of [undefined, null, {}, [], -1, 'soon', true]) {
    const type = value === 'soon' ? null : value
    const odd = { data_access_expires_at: value, expires_at: value, type, error: value }
    t.match(await inspected(odd), { data_access_ends_at: null, expires_at: undefined, type: null, waba_ids: [WABA] })
  }
  for (const valid of YES) t.strictSame((await inspected({ is_valid: valid })).waba_ids, [WABA])
  for (const invalid of NO) await t.rejects(inspected({ is_valid: invalid }), { code: 'META_TOKEN_INVALID' })
  t.strictSame((await inspected({ app_id: Number(app.id) })).waba_ids, [WABA])
  await t.rejects(inspected({ app_id: Number(app.id) + 1 }), { code: 'META_TOKEN_INVALID' })
})

await t.test('a call counts as done only if its answer says so', async t => {
  const { meta, calls } = await odd(t)
  const done = ['subscribe', 'override', 'phone_override', 'unsubscribe', 'register'] as const
  for (const route of done) {
    await calls.subscribe()
    for (const success of [...YES, true]) {
      meta.fail(route, { patch: { success } })
      await t.resolves(calls[route](), `${route} ${success}`)
      await calls.subscribe()
    }
    for (const success of [...NO, undefined, null, {}, 'TRUE', 'yes', 2]) {
      meta.fail(route, { patch: { success } })
      await t.rejects(calls[route](), { code: 'META_UNEXPECTED_REPLY' }, `${route} ${success}`)
    }
  }
})
