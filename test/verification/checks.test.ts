import t from '../run/tap.js'
import { GraphError } from '../graph/errors.js'
import type { Grant } from '../graph/state.js'
import { until } from '../helper.js'
import { config } from '../routes/client.js'
import { assertForm, detailOf, verificationService, verifyUrl } from './verification-service.js'

const { app, as, call, sql, meta, issue, asked, tenant, verified } = await verificationService(t)

await t.test('valid credentials pass all checks and are stored as verified', async (t) => {
  const { id, who } = await tenant({ token_expires_at: '2020-01-01T00:00:00Z' })
  const began = Date.now()
  const { body } = await verified(t, who, [])
  t.strictSame(asked(), ['debug_token', 'phone_numbers', 'subscriptions', 'phone'])
  const { body: now } = await call(who, 'GET', config)
  t.strictSame(body['config'], now, 'the stored configuration, masked')
  t.ok(Math.abs(Date.parse(String(now['last_verified_at'])) - began) < 60_000)
  t.ok(Math.abs(Date.parse(String(now['token_expires_at'])) - began - 5183944_000) < 60_000)
  t.strictSame([now['onboarding_completed'], now['is_active']], [false, true], 'a verification is no onboarding')
  t.match(await app.tokenWatch.healthOf(id), { token_status: 'ok', reason: null, checked_at: String })
  for (const body of [{}, '', undefined]) assertForm(t, await call(who, 'POST', verifyUrl, body))
})

await t.test('valid credentials of an inactive tenant are verified, but no token check is scheduled', async (t) => {
  const { id, who } = await tenant()
  t.equal((await call(who, 'POST', `${config}/deactivate`)).is, '200')
  t.match((await verified(t, who, [])).body['config'], { last_verified_at: String, is_active: false })
  t.match(await app.tokenWatch.healthOf(id), { token_status: 'ok', checked_at: String, next_check_at: null })
})

await t.test('the expiry that Meta reports is stored; without one the stored expiry stays', async (t) => {
  const { who } = await tenant({ token_expires_at: '2031-01-01T00:00:00.000000Z' })
  for (const [expires_at, expected] of [
    [undefined, '2031-01-01T00:00:00.000Z'], [4102444800, '2100-01-01T00:00:00.000Z'], [0, null], [undefined, null]
  ] as const) {
    meta.fail('debug_token', { patch: { data: { expires_at } } })
    const { body } = await verified(t, who, [])
    t.match(body['config'], {
      token_expires_at: expected === null ? null : new RegExp(expected.slice(0, 19)),
      last_verified_at: String
    })
  }
})

await t.test('a verification without a configuration is a 404 and does not call Meta', async (t) => {
  t.equal((await call(as('nobody'), 'POST', verifyUrl)).is, '404 CONFIG_NOT_FOUND')
  t.equal((await call(as('nobody'), 'POST', verifyUrl, {})).is, '404 CONFIG_NOT_FOUND')
  t.strictSame(asked(), [])
})

await t.test('an invalid token fails all checks after one call to Meta', async (t) => {
  for (const [grant, revoked, reason, advice] of [
    [{ expires_in: -1 }, undefined, /^meta_190_463$/, /has expired/],
    [{}, 458, /^meta_190_458$/, /took the access away/],
    [{}, 460, /^meta_190_460$/, /password/],
    [{}, 190, /^meta_190/, /not valid/]
  ] as const) {
    const { id, who, access_token } = await tenant({}, { grant })
    const token = meta.state.tokens.get(access_token)
    if (token !== undefined && revoked !== undefined) token.revoked = revoked
    const before = await call(who, 'GET', config)
    meta.requests.length = 0
    const answer = await verified(t, who, ['token', 'assets', 'subscription', 'callback'])
    t.match(detailOf(answer, 'token'), advice)
    for (const name of ['assets', 'subscription', 'callback']) {
      t.match(detailOf(answer, name), /Not asked, because the check of token failed/)
    }
    t.strictSame(asked(), ['debug_token'])
    t.strictSame(answer.body['config'], before.body, 'the configuration is unchanged')
    t.match(await app.tokenWatch.healthOf(id), { token_status: revoked === undefined ? 'expired' : 'revoked', reason })
  }
  const foreign = meta.state.addApp()
  const { who } = await tenant({ access_token: issue({ app_id: foreign.app_id }) })
  await verified(t, who, ['token', 'assets', 'subscription', 'callback'])

  // The app itself lacks the permission, which is no evidence against the token.
  const unknown = await tenant()
  meta.fail('debug_token', { reply: new GraphError(403, 200, 'Permissions error') })
  const refused = await verified(t, unknown.who, ['token', 'assets', 'subscription', 'callback'])
  t.match(detailOf(refused, 'token'), /permission/)
  t.match(await app.tokenWatch.healthOf(unknown.id), { token_status: 'unverified', reason: null })
})

await t.test('a stored token that is invalid in an HTTP header is not sent to Meta', async (t) => {
  for (const access_token of ['t\u00f6ken', 'two words', '\u{1f600}'.repeat(4096)]) {
    const { id, who } = await tenant()
    t.equal((await call(who, 'PUT', config, { access_token })).is, '400 VALIDATION_FAILED')
    // Earlier versions accepted such a token.
    await app.tenantConfigs.update(id, { access_token })
    meta.requests.length = 0
    const answer = await verified(t, who, ['token', 'assets', 'subscription', 'callback'])
    t.match(detailOf(answer, 'token'), /visible ASCII/)
    t.strictSame(asked(), [])
    t.match(await app.tokenWatch.healthOf(id), { token_status: 'revoked', reason: 'malformed' })
  }
  const { who } = await tenant({ access_token: 'x'.repeat(4096) })
  await verified(t, who, ['token', 'assets', 'subscription', 'callback'])
  t.strictSame(asked(), ['debug_token'], 'a token of the maximum length is sent')
})

await t.test('a missing token or account fails its check and the later ones', async (t) => {
  const { id, who } = await tenant({ access_token: null })
  const answer = await verified(t, who, ['token', 'assets', 'subscription', 'callback'])
  t.match(detailOf(answer, 'token'), /no access_token/)
  t.strictSame(asked(), [])
  t.match(await app.tokenWatch.healthOf(id), { reason: 'no_token' })

  const without = await tenant({ waba_id: null })
  const { body } = await verified(t, without.who, ['assets', 'subscription', 'callback'])
  t.match(body['checks'], [
    {},
    { detail: /no waba_id/ },
    { detail: /Not asked, because the check of assets/ },
    { detail: /assets/ }
  ])
  t.match(body['config'], { last_verified_at: null })
  t.match(await app.tokenWatch.healthOf(without.id), { token_status: 'ok' })
})

await t.test('a number or account that the token cannot read fails the check of assets', async (t) => {
  const elsewhere = await tenant({ phone_number_id: 'elsewhere' })
  const listed = await verified(t, elsewhere.who, ['assets', 'callback'])
  t.match(listed.body['checks'], [
    {},
    { detail: /phone number does not belong/ },
    {},
    { detail: /Not asked, because the check of assets/ }
  ])
  t.strictSame(asked(), ['debug_token', 'phone_numbers', 'subscriptions'])
  t.match(listed.body['config'], { last_verified_at: null, token_expires_at: String })

  for (const [grant, fields, advice] of [
    [{ waba_ids: ['1'] }, {}, /does not see the WhatsApp Business Account/],
    [{}, { waba_id: 'a/../b?c#d%2e' }, /does not see the WhatsApp Business Account/],
    [{ scopes: [] }, {}, /permission/]
  ] as Array<[Partial<Grant>, object, RegExp]>) {
    const { who } = await tenant(fields, { grant })
    const answer = await verified(t, who, ['assets', 'subscription', 'callback'])
    t.match(detailOf(answer, 'assets'), advice)
    t.match(answer.body['config'], { last_verified_at: null })
  }
})

await t.test('a missing subscription fails its check, but the identity is verified', async (t) => {
  const { who } = await tenant({}, { subscribed: false })
  const answer = await verified(t, who, ['subscription'])
  t.match(detailOf(answer, 'subscription'), /not subscribed/)
  t.match(answer.body['config'], { last_verified_at: String })
  meta.fail('subscriptions', { reply: new GraphError(403, 200, 'Permissions error') })
  t.match(detailOf(await verified(t, who, ['subscription']), 'subscription'), /permission/)
})

await t.test('what Meta says of the number is recorded, also when the check of assets fails', async (t) => {
  const { id, waba, who } = await tenant()
  const events: Array<[string, string | null]> = []
  t.teardown(app.events.onEvent(({ type, tenant_id, reason }) => {
    if (tenant_id === id && type.startsWith('number.')) events.push([type, reason])
  }))
  const stateAfter = async (failed: string[], body?: object) => {
    await verified(t, who, failed, body)
    return (await app.tokenWatch.healthOf(id))?.number_status
  }
  const [phone] = waba.phones
  t.equal(await stateAfter([]), 'pending')
  if (phone !== undefined) phone.registered = true
  t.equal(await stateAfter([], { verify_token: 'x' }), 'pending', 'a dry run records nothing')
  t.equal(await stateAfter([]), 'ok')
  const [facts] = await sql('select verified_name, status from phone_numbers where tenant_id = $1', [id])
  t.same(facts, { verified_name: 'Lucky Shrub', status: 'CONNECTED' })

  meta.fail('phone_numbers', { reply: new GraphError(403, 200, 'Permissions error') })
  t.equal(await stateAfter(['assets', 'subscription', 'callback']), 'ok', 'no finding about the number')
  const phones = waba.phones.splice(0)
  t.equal(await stateAfter(['assets', 'callback']), 'missing')
  waba.phones.push(...phones)
  t.equal(await stateAfter([]), 'ok')
  waba.app_ids = []
  t.equal(await stateAfter(['assets', 'subscription', 'callback']), 'missing')
  await until(() => events.length === 3)
  t.same(events, [['number.missing', null], ['number.recovered', null], ['number.missing', null]])
})

await t.test('the end of the access to data is recorded', async (t) => {
  const { id, who } = await tenant({}, { grant: { expires_in: 0, data_access_expires_in: 5 * 24 * 3600 } })
  await verified(t, who, [])
  t.match(await app.tokenWatch.healthOf(id), {
    token_status: 'expiring',
    reason: 'data_access_ends_within_7_days',
    token_expires_at: null
  })
})
