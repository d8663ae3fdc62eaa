import { createHmac } from 'node:crypto'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { BLOCK_MS, clock } from '../fixtures/clock.js'
import { GraphError, temporarilyDown, throttled, tokenRefused } from '../graph/errors.js'
import { faults, type Fault, type Route } from '../graph/faults.js'
import type { Grant } from '../graph/state.js'
import { app as platform, standIn } from '../meta/wire.js'
import { until } from '../helper.js'
import { base, client, config, type Answer } from '../routes/client.js'

const url = `${config}/verify`
const CALLBACK = 'https://platform.example/hook'
const OWN = 'https://tenant.example/hook?a=b'
const ROUTES: Route[] = ['debug_token', 'phone_numbers', 'subscriptions', 'phone']
const { meta } = await standIn(t)
const metaApp = meta.state.apps.get(platform.id)
if (metaApp === undefined) throw new Error('the stand-in lost its app')
metaApp.callback_url = CALLBACK
const service = await client(t, {
  GRAPH_API_BASE_URL: meta.url,
  GRAPH_TIMEOUT_MS: 1500,
  FB_APP_ID: platform.id,
  FB_APP_SECRET: platform.secret,
  CALLBACK_URL: CALLBACK
})
const { app, as, call, sql, log } = service
t.beforeEach(() => {
  meta.clearFaults()
  meta.requests.length = 0
})

const issue = (grant: Partial<Grant> = {}) => meta.state.issueToken({ app_id: platform.id, ...grant })
const asked = () => meta.requests.map(({ route }) => route)

let tenants = 0
/** Creates a tenant with credentials that are valid at Meta, unless `fields` or the options change them. */
async function tenant (
  fields: object = {},
  { subscribed = true, override = undefined as string | undefined, grant = {} as Partial<Grant> } = {}
) {
  const id = `tenant-${++tenants}`
  const subscription = override === undefined ? {} : { override: { url: override, verify_token: 'x' } }
  const waba = meta.state.addWaba({
    app_ids: [platform.id],
    subscriptions: subscribed ? { [platform.id]: subscription } : {}
  })
  const credentials = { waba_id: waba.id, phone_number_id: String(waba.phones[0]?.id), access_token: issue(grant) }
  t.equal((await call(as(id), 'POST', config, { ...credentials, ...fields })).is, '201')
  return { id, who: as(id), waba, ...credentials }
}

interface Row { name: string, ok: boolean, detail: string }
const checksOf = ({ body }: Answer): Row[] => JSON.parse(JSON.stringify(body['checks']))
/** The names of the failed checks. */
const failing = (answer: Answer) => checksOf(answer).filter(({ ok }) => !ok).map(({ name }) => name)
const detail = (answer: Answer, name: string) => checksOf(answer).find((check) => check.name === name)?.detail
/** The stored configurations and watches as text, and the number of events. */
const stored = async () => await sql(
  'select (select jsonb_agg(to_jsonb(c) order by id)::text from tenant_configs c) as configs, (select ' +
    'jsonb_agg(to_jsonb(w) order by tenant_id)::text from token_watch w) as watch, (select count(*) from ' +
      'events_outbox) as events'
)

/**
 * Asserts the common form of every 200: four checks in order, `ok` as their conjunction, one sentence each.
 * No text of Meta and no token may appear.
 */
function isAnswer (t: Test, answer: Answer) {
  t.equal(answer.is, '200')
  const checks = checksOf(answer)
  t.strictSame(checks.map(({ name }) => name), ['token', 'assets', 'subscription', 'callback'])
  t.equal(answer.body['ok'], checks.every(({ ok }) => ok))
  for (const { detail } of checks) t.match(detail, /^[A-Z][^\n]+\.$/)
  t.notMatch(JSON.stringify(checks), /EAA|Error validating|Session|Unsupported|platform\.example|tenant\.example/)
}

/** Verifies the stored credentials, or those of the body, and asserts which checks fail. */
async function verified (t: Test, who: Record<string, string>, wrong: string[], body?: object): Promise<Answer> {
  const answer = await call(who, 'POST', url, body)
  isAnswer(t, answer)
  t.strictSame(failing(answer), wrong, JSON.stringify(checksOf(answer)))
  return answer
}

await t.test('valid credentials pass all checks and are stored as verified', async (t) => {
  const { id, who } = await tenant({ token_expires_at: '2020-01-01T00:00:00Z' })
  const began = Date.now()
  const { body } = await verified(t, who, [])
  t.strictSame(asked(), ['debug_token', 'phone_numbers', 'subscriptions', 'phone'])
  const { body: now } = await call(who, 'GET', config)
  t.strictSame(body['config'], now, 'masked, as it is stored after that')
  t.ok(Math.abs(Date.parse(String(now['last_verified_at'])) - began) < 60_000)
  t.ok(Math.abs(Date.parse(String(now['token_expires_at'])) - began - 5183944_000) < 60_000)
  t.strictSame([now['onboarding_completed'], now['is_active']], [false, true], 'an onboarding is another thing')
  t.match(await app.tokenWatch.healthOf(id), { token_status: 'ok', reason: null, checked_at: String })
  for (const body of [{}, '', undefined]) isAnswer(t, await call(who, 'POST', url, body))
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
  t.equal((await call(as('nobody'), 'POST', url)).is, '404 CONFIG_NOT_FOUND')
  t.equal((await call(as('nobody'), 'POST', url, {})).is, '404 CONFIG_NOT_FOUND')
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
    t.match(detail(answer, 'token'), advice)
    for (const name of [
      'assets', 'subscription', 'callback'
    ]) t.match(detail(answer, name), /Not asked, because the check of token failed/)
    t.strictSame(asked(), ['debug_token'])
    t.strictSame(answer.body['config'], before.body, 'no proof')
    t.match(await app.tokenWatch.healthOf(id), { token_status: revoked === undefined ? 'expired' : 'revoked', reason })
  }
  const foreign = meta.state.addApp()
  const { who } = await tenant({ access_token: issue({ app_id: foreign.app_id }) })
  await verified(t, who, ['token', 'assets', 'subscription', 'callback'])

  // The app itself lacks the permission, which is no evidence against the token.
  const unsaid = await tenant()
  meta.fail('debug_token', { reply: new GraphError(403, 200, 'Permissions error') })
  t.match(detail(await verified(t, unsaid.who, ['token', 'assets', 'subscription', 'callback']), 'token'), /permission/)
  t.match(await app.tokenWatch.healthOf(unsaid.id), { token_status: 'unverified', reason: null })
})

await t.test('a stored token that is invalid in an HTTP header is not sent to Meta', async (t) => {
  for (const access_token of ['t\u00f6ken', 'two words', '\u{1f600}'.repeat(4096)]) {
    const { id, who } = await tenant()
    t.equal((await call(who, 'PUT', config, { access_token })).is, '400 VALIDATION_FAILED')
    // Earlier versions accepted such a token.
    await app.tenantConfigs.update(id, { access_token })
    meta.requests.length = 0
    const answer = await verified(t, who, ['token', 'assets', 'subscription', 'callback'])
    t.match(detail(answer, 'token'), /visible ASCII/)
    t.strictSame(asked(), [])
    t.match(await app.tokenWatch.healthOf(id), { token_status: 'revoked', reason: 'malformed' })
  }
  const { who } = await tenant({ access_token: 'x'.repeat(4096) })
  await verified(t, who, ['token', 'assets', 'subscription', 'callback'])
  t.strictSame(asked(), ['debug_token'], 'as long as may be, it is asked about')
})

await t.test('a missing token or account fails its check and the later ones', async (t) => {
  const { id, who } = await tenant({ access_token: null })
  const answer = await verified(t, who, ['token', 'assets', 'subscription', 'callback'])
  t.match(detail(answer, 'token'), /no access_token/)
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
    { detail: /phone_number_id does not belong/ },
    {},
    { detail: /Not asked, because the check of assets/ }
  ])
  t.strictSame(asked(), ['debug_token', 'phone_numbers', 'subscriptions'])
  t.match(listed.body['config'], { last_verified_at: null, token_expires_at: String })

  for (const [grant, fields, advice] of [
    [{ waba_ids: ['1'] }, {}, /does not see this waba_id/],
    [{}, { waba_id: 'a/../b?c#d%2e' }, /does not see this waba_id/],
    [{ scopes: [] }, {}, /permission/]
  ] as Array<[Partial<Grant>, object, RegExp]>) {
    const { who } = await tenant(fields, { grant })
    const answer = await verified(t, who, ['assets', 'subscription', 'callback'])
    t.match(detail(answer, 'assets'), advice)
    t.match(answer.body['config'], { last_verified_at: null })
  }
})

await t.test('a missing subscription fails its check, but the identity is verified', async (t) => {
  const { who } = await tenant({}, { subscribed: false })
  const answer = await verified(t, who, ['subscription'])
  t.match(detail(answer, 'subscription'), /not subscribed/)
  t.match(answer.body['config'], { last_verified_at: String })
  meta.fail('subscriptions', { reply: new GraphError(403, 200, 'Permissions error') })
  t.match(detail(await verified(t, who, ['subscription']), 'subscription'), /permission/)
})

await t.test('a callback other than the expected one fails its check', async (t) => {
  for (const [fields, options, holds] of [
    [{}, {}, true],
    [{}, { override: OWN }, false],
    [{ callback_url: OWN }, { override: OWN }, true],
    [{ callback_url: OWN }, { override: 'https://TENANT.example:443/hook?a=b' }, true],
    [{ callback_url: OWN }, { override: `${OWN}c` }, false],
    [{ callback_url: OWN }, { override: 'no URL' }, false],
    [{ callback_url: OWN }, {}, false],
    [{ callback_url: OWN, phone_number_id: null }, { override: OWN }, true],
    [{ callback_url: OWN, phone_number_id: null }, { override: CALLBACK }, false],
    [{ callback_url: OWN, phone_number_id: null }, {}, false]
  ] as const) {
    const { who } = await tenant(fields, options)
    const answer = await verified(t, who, holds ? [] : ['callback'])
    t.match(detail(answer, 'callback'), holds ? /expected callback_url/ : /elsewhere, or nowhere/)
    t.match(answer.body['config'], { last_verified_at: String })
  }
  const unset = await tenant({ callback_url: OWN })
  const onboardAgain = /^(?!.*Store a verify_token).*onboard again/
  const storeFirst = /Store a verify_token, then onboard again/
  t.match(detail(await verified(t, unset.who, ['callback']), 'callback'), storeFirst)
  t.match(detail(await verified(t, unset.who, ['callback'], { verify_token: 'x' }), 'callback'), onboardAgain)
  const set = await tenant({ callback_url: OWN, verify_token: 'x' })
  t.match(detail(await verified(t, set.who, ['callback']), 'callback'), onboardAgain)
  const fallback = await tenant({}, { override: OWN })
  t.match(detail(await verified(t, fallback.who, ['callback']), 'callback'), onboardAgain)
  // The callback of a number takes precedence over that of its account.
  for (const [override, phone, wrong] of [[CALLBACK, OWN, []], [OWN, CALLBACK, ['callback']]] as const) {
    const { who, waba } = await tenant({ callback_url: OWN }, { override })
    Object.assign(waba.phones[0] ?? {}, { override: { url: phone, verify_token: 'x' } })
    await verified(t, who, [...wrong])
  }
  const nowhere = await tenant()
  meta.fail('phone', { patch: { webhook_configuration: null } })
  await verified(t, nowhere.who, ['callback'])
  meta.fail('phone', { reply: tokenRefused(463, 401) })
  t.match(detail(await verified(t, nowhere.who, ['callback']), 'callback'), /has expired/)
  t.match(
    await app.tokenWatch.healthOf(nowhere.id),
    { token_status: 'revoked', reason: 'meta_190_463' },
    'a token may end between two questions'
  )

  const bare = await tenant({ phone_number_id: null }, { subscribed: false })
  t.match(
    detail(await verified(t, bare.who, ['subscription', 'callback']), 'callback'),
    /Not asked, because the check of subscription/
  )
})

await t.test('the check of callback passes without a call if no callback is expected', async (t) => {
  const { as, call } = await client(t, {
    GRAPH_API_BASE_URL: meta.url,
    FB_APP_ID: platform.id,
    FB_APP_SECRET: platform.secret
  })
  const waba = meta.state.addWaba({
    app_ids: [platform.id],
    subscriptions: { [platform.id]: { override: { url: OWN, verify_token: 'x' } } }
  })
  await call(as('acme'), 'POST', config, {
    waba_id: waba.id,
    phone_number_id: String(waba.phones[0]?.id),
    access_token: issue()
  })
  const answer = await call(as('acme'), 'POST', url)
  t.strictSame([failing(answer), detail(answer, 'callback')], [[], 'No callback_url is expected.'])
  t.strictSame(asked(), ['debug_token', 'phone_numbers', 'subscriptions'])
  t.strictSame(
    failing(await call(as('acme'), 'POST', url, { access_token: null })),
    ['token', 'assets', 'subscription']
  )
})

await t.test('a transient failure at Meta is answered with its own code and stores nothing', async (t) => {
  const { id } = await tenant()
  const { goOn } = clock(t)
  const before = await stored()
  const cases: Array<[Fault, string]> = [
    [faults.dropBefore, '503 META_UNAVAILABLE'],
    [faults.badGateway, '503 META_UNAVAILABLE'],
    [{ reply: temporarilyDown() }, '503 META_UNAVAILABLE'],
    [{ reply: throttled(80007) }, '503 META_RATE_LIMITED'],
    [
      { reply: new GraphError(400, 100, 'Invalid appsecret_proof provided in the API argument') },
      '502 META_APP_REJECTED'
    ],
    [{ reply: { status: 200, body: '[]' } }, '502 META_UNEXPECTED_REPLY'],
    [{ latency_ms: 60_000 }, '504 META_TIMEOUT']
  ]
  for (const route of ROUTES) {
    for (const [fault, expected] of cases) {
      meta.fail(route, fault)
      t.equal((await call(as(id), 'POST', url)).is, expected, `${route} ${JSON.stringify(fault).slice(0, 60)}`)
      if (expected.includes('RATE')) goOn(BLOCK_MS)
    }
  }
  t.same(await stored(), before)
})

await t.test('a missing app or an unreadable secret has its own error code', async (t) => {
  const bare = await client(t, { GRAPH_API_BASE_URL: meta.url })
  await bare.call(bare.as('acme'), 'POST', config, { access_token: 'x' })
  t.equal((await bare.call(bare.as('acme'), 'POST', url)).is, '503 META_APP_NOT_CONFIGURED')
  t.equal((await bare.call(bare.as('acme'), 'POST', url, { waba_id: '1' })).is, '503 META_APP_NOT_CONFIGURED')
  const own = meta.state.addApp()
  t.strictSame(
    failing(
      await bare.call(bare.as('acme'), 'POST', url, {
        fb_app_id: own.app_id,
        fb_app_secret: own.app_secret,
        access_token: issue({ app_id: own.app_id })
      })
    ),
    ['assets', 'subscription']
  )

  const { id, who, access_token } = await tenant({ verify_token: 'any' })
  for (const column of ['access_token', 'fb_app_secret']) {
    await sql(
      `update tenant_configs set fb_app_id = '${platform.id}', ${column} = verify_token where tenant_id = $1`,
      [id]
    )
    t.equal((await call(who, 'POST', url)).is, '500 SECRET_UNREADABLE', column)
    t.equal((await call(who, 'POST', url, { waba_id: '1' })).is, '500 SECRET_UNREADABLE', column)
    t.match(
      await verified(t, who, [
        'assets', 'subscription', 'callback'
      ], { access_token, fb_app_id: null, fb_app_secret: null, waba_id: '1' }),
      { body: { config: { [column]: '****' } } }
    )
    await call(who, 'PUT', config, { access_token, fb_app_secret: null })
  }
  await sql('update tenant_configs set refresh_token = verify_token where tenant_id = $1', [id])
  t.match(
    (await verified(t, who, [])).body['config'],
    { refresh_token: '****', last_verified_at: String },
    'another secret is no matter'
  )
})

await t.test('a rejected app of the tenant fails the check of token instead of the request', async (t) => {
  const own = meta.state.addApp()
  for (const app of [
    { fb_app_id: own.app_id, fb_app_secret: 'wrong' },
    { fb_app_id: '404', fb_app_secret: own.app_secret }
  ]) {
    const { id, who } = await tenant({ ...app, access_token: issue({ app_id: own.app_id }) })
    for (const body of [undefined, { callback_url: null }, { ...app, waba_id: '1' }]) {
      const answer = await verified(t, who, ['token', 'assets', 'subscription', 'callback'], body)
      t.match(detail(answer, 'token'), /Check fb_app_id and fb_app_secret/)
    }
    t.match(await service.app.tokenWatch.healthOf(id), { token_status: 'unverified', reason: null })
  }
  const { who } = await tenant({
    fb_app_id: own.app_id,
    fb_app_secret: own.app_secret,
    access_token: issue({ app_id: own.app_id })
  })
  meta.fail('debug_token', { reply: new GraphError(400, 3, 'Application does not have the capability') })
  t.match(
    detail(await verified(t, who, ['token', 'assets', 'subscription', 'callback']), 'token'),
    /what the app may do/
  )
  for (const body of [undefined, { fb_app_id: own.app_id, fb_app_secret: null }]) {
    const platforms = await tenant(body)
    meta.fail('debug_token', { reply: new GraphError(400, 101, 'Error validating application') })
    t.equal((await call(platforms.who, 'POST', url)).is, '502 META_APP_REJECTED', 'that of the platform is not')
  }
})

await t.test('a concurrent write of the configuration is never overwritten', async (t) => {
  const change = async (body: object, who: Record<string, string>) => {
    t.equal(
      (await call(who, 'PUT', config, body)).is,
      '200'
    )
  }
  for (const [name, overtake] of [
    ['another token', async ({ who }) => await change({ access_token: issue() }, who)],
    ['no token', async ({ who }) => await change({ access_token: null }, who)],
    ['another account', async ({ who }) => await change({ waba_id: '1' }, who)],
    ['another number', async ({ who }) => await change({ phone_number_id: 'x' }, who)],
    ['no number', async ({ who }) => await change({ phone_number_id: null }, who)]
  ] as Array<[string, (of: Awaited<ReturnType<typeof tenant>>) => Promise<void>]>) {
    const of = await tenant()
    meta.requests.length = 0
    meta.fail('phone', { latency_ms: 600 })
    const asking = verified(t, of.who, [])
    await until(() => asked().includes('phone'))
    await overtake(of)
    const { body: written } = await call(of.who, 'GET', config)
    const { body } = await asking
    const { body: after } = await call(of.who, 'GET', config)
    t.strictSame(body['config'], after, name)
    t.strictSame(
      { ...after, token_expires_at: null, updated_at: null },
      { ...written, token_expires_at: null, updated_at: null },
      name
    )
    t.equal(after['last_verified_at'], null)
    if (name.includes('token')) t.strictSame(after, written, 'nor when that one expires')
  }

  const { who } = await tenant()
  meta.requests.length = 0
  meta.fail('phone', { latency_ms: 600 })
  const asking = call(who, 'POST', url)
  await until(() => asked().includes('phone'))
  t.equal((await call(who, 'DELETE', config)).is, '204')
  t.equal((await asking).is, '404 CONFIG_NOT_FOUND')
})

await t.test('an expiry that is stored during the verification stays', async (t) => {
  const { who } = await tenant({ token_expires_at: '2031-01-01T00:00:00.000000Z' })
  for (const [expires_at, stored] of [
    [undefined, '2032-01-01T00:00:00.000000Z'], [4102444800, '2033-01-01T00:00:00.000000Z']
  ] as const) {
    meta.requests.length = 0
    meta.fail('debug_token', { patch: { data: { expires_at } } })
    meta.fail('phone', { latency_ms: 600 })
    const asking = verified(t, who, [])
    await until(() => asked().includes('phone'))
    const { body: { last_verified_at: before } } = await call(who, 'PUT', config, { token_expires_at: stored })
    const { body } = await asking
    t.match(body['config'], { token_expires_at: stored, last_verified_at: String }, String(expires_at))
    t.not(Object(body['config'])['last_verified_at'], before, 'the identity is verified all the same')
  }
})

await t.test('a finding or a claim made during the verification stays', async (t) => {
  const meanwhile = async (work: (tenantId: string, wabaId: string) => Promise<unknown>) => {
    const { id, who, waba } = await tenant()
    meta.requests.length = 0
    meta.fail('phone', { latency_ms: 600 })
    const asking = verified(t, who, [])
    await until(() => asked().includes('phone'))
    await work(id, waba.id)
    return { id, config: (await asking).body['config'] }
  }
  const lost = await meanwhile(async (_id, waba) => {
    const body = JSON.stringify({
      object: 'whatsapp_business_account',
      entry: [
        {
          id: '1',
          changes: [{ field: 'account_update', value: { event: 'PARTNER_REMOVED', waba_info: { waba_id: waba } } }]
        }
      ]
    })
    const signature = createHmac('sha256', platform.secret).update(body).digest('hex')
    t.equal(
      (await call(
        {},
        'POST',
        `${base}/onboard/account-update`,
        body,
        { 'x-hub-signature-256': `sha256=${signature}` }
      )).is,
      '200'
    )
  })
  t.match(await app.tokenWatch.healthOf(lost.id), { token_status: 'revoked', reason: 'PARTNER_REMOVED' })
  t.match(lost.config, { last_verified_at: null, is_active: false })

  // The scheduler that claimed the token will record its own finding.
  const claimed = await meanwhile(async (id) => await sql(
    "update token_watch set next_check_at = now() + interval '2 hours' where tenant_id = $1",
    [id]
  ))
  t.match(await app.tokenWatch.healthOf(claimed.id), { token_status: 'unverified', checked_at: null })
  t.match(claimed.config, { last_verified_at: String })
})

await t.test('a dry run checks the body and stores nothing', async (t) => {
  const { id, who, waba, access_token } = await tenant({ callback_url: OWN }, { override: OWN })
  const { body: shown } = await call(who, 'GET', config)
  const dead = issue({ expires_in: -1 })
  const other = meta.state.addWaba({ app_ids: [platform.id], subscriptions: { [platform.id]: {} } })
  const own = meta.state.addApp()
  waba.app_ids.push(own.app_id)
  const before = await stored()
  const told: unknown[] = []
  t.teardown(app.tokenWatch.onTransition((transition) => { told.push(transition) }))
  for (const [body, wrong] of [
    [{ access_token }, []],
    [{ access_token: issue() }, []],
    [
      {
        verify_token: 'does not count',
        redirect_url: null,
        refresh_token: 'r',
        token_expires_at: '2020-01-01T00:00:00Z'
      },
      []
    ],
    [{ access_token: dead }, ['token', 'assets', 'subscription', 'callback']],
    [{ access_token: null }, ['token', 'assets', 'subscription', 'callback']],
    [{ access_token: 'x'.repeat(4096) }, ['token', 'assets', 'subscription', 'callback']],
    [{ waba_id: null }, ['assets', 'subscription', 'callback']],
    [{ waba_id: '...' }, ['assets', 'subscription', 'callback']],
    [{ waba_id: other.id }, ['assets', 'callback']],
    [{ waba_id: other.id, phone_number_id: String(other.phones[0]?.id) }, ['callback']],
    [{ waba_id: other.id, phone_number_id: String(other.phones[0]?.id), callback_url: null }, []],
    [{ phone_number_id: null }, []],
    [{ callback_url: CALLBACK }, ['callback']],
    [{ fb_app_id: own.app_id, fb_app_secret: own.app_secret }, ['token', 'assets', 'subscription', 'callback']],
    [
      { fb_app_id: own.app_id, fb_app_secret: own.app_secret, access_token: issue({ app_id: own.app_id }) },
      ['subscription', 'callback']
    ],
    [{ fb_app_id: own.app_id }, []]
  ] as Array<[object, string[]]>) {
    const answer = await verified(t, who, wrong, body)
    t.strictSame(answer.body['config'], shown)
  }
  for (const secret of ['access_token', 'fb_app_secret', 'verify_token', 'refresh_token']) {
    meta.requests.length = 0
    t.equal((await call(who, 'POST', url, { [secret]: '****0001' })).is, '400 MASKED_VALUE', secret)
    t.strictSame(asked(), [])
  }
  for (const [body, field] of [
    [{ waba_id: '.' }, 'waba_id'], [{ phone_number_id: '..' }, 'phone_number_id'],
    [{ access_token: 'x'.repeat(4097) }, 'access_token'], [{ access_token: 'a\nb' }, 'access_token'],
    [{ access_token: 1 }, 'access_token'], [{ code: 'x' }, 'code'], [{ tenant_id: 'other' }, 'tenant_id'], [
      { callback_url: 'ftp://a.example' }, 'callback_url'
    ]
  ] as Array<[object, string]>) {
    const { is, body: { errors } } = await call(who, 'POST', url, body)
    t.equal(is, '400 VALIDATION_FAILED')
    t.match(errors, [{ field, message: /^(must |is not a field)/ }])
    t.equal(
      JSON.stringify(errors).split('field').length - (JSON.stringify(errors).includes('is not a field') ? 1 : 0),
      2,
      'and no more'
    )
  }
  for (const body of ['[]', '1', '"x"', 'true']) {
    t.equal(
      (await call(who, 'POST', url, body, { 'content-type': 'application/json' })).is,
      '400 VALIDATION_FAILED',
      body
    )
  }
  t.same(await stored(), before)
  t.same(told, [])
  t.match(await app.tokenWatch.healthOf(id), { token_status: 'unverified' })
})

await t.test('a dry run works without a configuration', async (t) => {
  const { waba, phone_number_id, access_token } = await tenant()
  const before = await stored()
  const { body } = await verified(t, as('newcomer'), [], { waba_id: waba.id, phone_number_id, access_token })
  t.equal(body['config'], null)
  t.equal(
    (await verified(
      t,
      as('newcomer'),
      ['token', 'assets', 'subscription', 'callback'],
      { waba_id: waba.id }
    )).body['config'],
    null
  )
  t.same(await stored(), before)
})

await t.test('concurrent verifications of one tenant share the calls to Meta', async (t) => {
  const one = await tenant()
  const other = await tenant()
  meta.requests.length = 0
  meta.fail('debug_token', { latency_ms: 600, times: 2 })
  const all = Array.from({ length: 50 }, () => verified(t, one.who, []))
  const beside = verified(t, other.who, [])
  for (const { body } of await Promise.all(all)) {
    t.match(body, {
      ok: true,
      config: { tenant_id: one.id, last_verified_at: String }
    })
  }
  t.match((await beside).body, { config: { tenant_id: other.id } })
  t.strictSame(asked().sort(), [...ROUTES, ...ROUTES].sort())
  await verified(t, one.who, [])
  t.equal(asked().length, 12, 'and later ones another')

  // A verification after a write must not join one of the former credentials.
  meta.requests.length = 0
  meta.fail('debug_token', { latency_ms: 600 })
  const before = verified(t, one.who, [])
  await until(() => asked().length === 1)
  t.equal((await call(one.who, 'PUT', config, { access_token: issue({ expires_in: -1 }) })).is, '200')
  await verified(t, one.who, ['token', 'assets', 'subscription', 'callback'])
  await before

  meta.requests.length = 0
  meta.fail('debug_token', { latency_ms: 600, ...faults.badGateway })
  t.strictSame(
    (await Promise.all([call(other.who, 'POST', url), call(other.who, 'POST', url)])).map(({ is }) => is),
    ['503 META_UNAVAILABLE', '503 META_UNAVAILABLE']
  )
  t.strictSame(asked(), ['debug_token'])
  await verified(t, other.who, [])
})

await t.test('a verification of one tenant changes nothing of another on the same account', async (t) => {
  const { id, waba, phone_number_id, who } = await tenant()
  // A tenant that claims the account of another, without a token for it.
  const squatter = as('squatter')
  await call(squatter, 'POST', config, { waba_id: waba.id, access_token: issue({ waba_ids: ['1'] }) })
  const { body: before } = await call(who, 'GET', config)
  await verified(t, squatter, ['assets', 'subscription', 'callback'])
  await verified(t, squatter, ['assets', 'subscription', 'callback'], { phone_number_id })
  t.strictSame((await call(who, 'GET', config)).body, before)
  t.match(await app.tokenWatch.healthOf(id), { token_status: 'unverified' })
  t.notMatch(log(), phone_number_id)
})
