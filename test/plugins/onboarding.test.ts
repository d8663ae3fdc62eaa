import { createHmac } from 'node:crypto'
import t, { type Test } from 'tap'
import { GraphError, temporarilyDown, throttled, tokenRefused } from '../graph/errors.js'
import { faults, type Fault, type Route } from '../graph/faults.js'
import type { Grant } from '../graph/state.js'
import { buildTestApp, query, type TestApp } from '../helper.js'
import { app, standIn } from './meta-wire.js'

const ROUTES: Route[] = ['access_token', 'debug_token', 'phone_numbers']
const { meta, waba } = await standIn(t)
const own = meta.state.addApp({ app_id: '42', require_proof: true })
waba.app_ids.push(own.app_id)
const GRAPH = { GRAPH_API_BASE_URL: meta.url }
const PLATFORM = { FB_APP_ID: app.id, FB_APP_SECRET: app.secret }
const service = await buildTestApp(t, { ...GRAPH, ...PLATFORM })
const bare = await buildTestApp(t, { ...GRAPH, GRAPH_TIMEOUT_MS: 1500 })
t.beforeEach(() => {
  meta.requests.length = 0
  meta.clearFaults()
})

let tenants = 0
const newTenant = () => `tenant ${++tenants}`
const issue = (grant: Partial<Grant> & { redirect_uri?: string, age?: number } = {}) => meta.state.issueCode({ app_id: app.id, ...grant })
const lastToken = () => [...meta.state.tokens.keys()].at(-1)

/** Onboards over HTTP, each tenant with a phone number of its own unless told otherwise. */
async function onboard (tenant: string, body: object = {}, { app, as }: TestApp = service) {
  const payload = { code: issue(), waba_id: waba.id, phone_number_id: /\d+/.exec(tenant)?.[0], ...body }
  const reply = await app.inject({ method: 'POST', url: '/api/v1/tenant/onboard/whatsapp-client', headers: as(tenant, 'who onboards'), payload })
  return { status: reply.statusCode, headers: reply.headers, body: reply.json() }
}

/** A tenant with a row of its own. */
async function existing (body: object, { app, as }: TestApp = service): Promise<string> {
  const tenant = newTenant()
  const { statusCode } = await app.inject({ method: 'POST', url: '/api/v1/tenant/config', headers: as(tenant, 'who created'), payload: body })
  t.equal(statusCode, 201)
  return tenant
}

/** The tenant's row as PostgreSQL writes it, to the microsecond; none or one. */
async function rows (tenant: string, { databaseUrl } = service): Promise<Array<Record<string, unknown>>> {
  const found = await query(databaseUrl, 'select to_jsonb(tenant_configs)::text as row from tenant_configs where tenant_id = $1', [tenant])
  return found.map(({ row }) => JSON.parse(String(row)))
}

await t.test('a login of a new tenant is exchanged, proven and stored', async (t) => {
  const tenant = newTenant()
  const began = Date.now()
  const { status, headers, body } = await onboard(tenant, { phone_number_id: '201' })
  t.equal(status, 201)
  t.equal(headers['cache-control'], 'no-store')
  const stored = { tenant_id: tenant, user_id: 'who onboards', waba_id: waba.id, phone_number_id: '201', is_active: true, onboarding_completed: true }
  t.match(body, { ...stored, access_token: `****${lastToken()?.slice(-4)}` })
  const [row] = await rows(tenant)
  t.match(row, { ...stored, access_token: /^v1\.t1\./ })
  for (const column of ['onboarded_at', 'last_verified_at']) t.ok(Math.abs(Date.parse(String(row?.[column])) - began) < 60_000, column)
  const full = await service.app.inject({ url: '/api/v1/tenant/config/full', headers: service.as(tenant) })
  t.equal(full.json().access_token, lastToken())

  // The number is on the third page of the list.
  t.same(meta.requests.map(({ route }) => route), ['access_token', 'debug_token', 'phone_numbers', 'phone_numbers', 'phone_numbers', 'subscribe'])
  for (const { query, headers: { authorization = '' } } of meta.requests.slice(1)) {
    t.equal(query['appsecret_proof'], createHmac('sha256', app.secret).update(authorization.replace('Bearer ', '')).digest('hex'))
  }
  t.ok(meta.requests.slice(2).every(({ headers }) => headers.authorization === `Bearer ${lastToken()}`))
})

await t.test('a row that is there is completed and activated; what the login says nothing of stays', async (t) => {
  const tenant = await existing({ waba_id: 'old', phone_number_id: 'old', access_token: 'old', token_expires_at: '2030-01-01T00:00:00Z', fb_app_id: 'half a pair', callback_url: 'https://a.example/', redirect_url: 'https://b.example/', verify_token: 'verify', refresh_token: 'refresh' })
  await service.app.inject({ method: 'POST', url: '/api/v1/tenant/config/deactivate', headers: service.as(tenant) })
  const [before] = await rows(tenant)
  t.match(before, { is_active: false, onboarding_completed: false })
  t.equal((await onboard(tenant)).status, 200)
  const [after = {}] = await rows(tenant)
  const changed = Object.keys(after).filter((column) => after[column] !== before?.[column])
  t.same(changed.sort(), ['access_token', 'is_active', 'last_verified_at', 'onboarded_at', 'onboarding_completed', 'phone_number_id', 'token_expires_at', 'updated_at', 'waba_id'])
  t.match(after, { user_id: 'who created', waba_id: waba.id, is_active: true, onboarding_completed: true })
})

await t.test('whose word on the expiry counts', async (t) => {
  const table: Array<[unknown, unknown, RegExp]> = [
    [60, 4102444800, /^2100-01-01T00:00:00/],
    [60, 0, /^null$/],
    [1e9, undefined, /^20[56]\d-/],
    [1e9, null, /^20[56]\d-/],
    [undefined, undefined, /^null$/],
    [null, null, /^null$/]
  ]
  const tenant = newTenant()
  for (const [exchange, debug, expected] of table) {
    meta.fail('access_token', { patch: { expires_in: exchange } })
    meta.fail('debug_token', { patch: { data: { expires_at: debug } } })
    t.match(String((await onboard(tenant)).body.token_expires_at), expected)
  }
})

await t.test('the redirect_uri goes to Meta byte by byte, or not at all', async (t) => {
  const redirect = { redirect_uri: 'HTTPS://A.example:443/a/../cb/?x=%7e&y=é&z=a+b#_=_' }
  t.equal((await onboard(newTenant(), { code: issue(redirect), ...redirect })).status, 201)
  t.equal((await onboard(newTenant())).status, 201)
  t.same(meta.requests.filter(({ route }) => route === 'access_token').map(({ form }) => form['redirect_uri']), [redirect.redirect_uri, undefined])
})

await t.test('which app it goes through', async (t) => {
  const pair = { fb_app_id: own.app_id, fb_app_secret: own.app_secret }
  const ask = async (config: object, at: TestApp, appId: string) => {
    meta.requests.length = 0
    const { status, body } = await onboard(await existing(config, at), { code: issue({ app_id: appId }) }, at)
    return [status, body.code, meta.requests[0]?.form['client_id']]
  }
  t.same(await ask(pair, service, own.app_id), [200, undefined, own.app_id], "the tenant's own")
  t.same(await ask({ fb_app_id: own.app_id }, service, app.id), [200, undefined, app.id], 'half a pair is none')
  t.same(await ask({ fb_app_secret: own.app_secret }, service, app.id), [200, undefined, app.id])
  t.same(await ask(pair, bare, own.app_id), [200, undefined, own.app_id])
  t.same(await ask({ fb_app_id: own.app_id }, bare, own.app_id), [503, 'META_APP_NOT_CONFIGURED', undefined])
  t.match(await onboard(newTenant(), {}, bare), { status: 503, headers: { 'retry-after': /\d/ }, body: { code: 'META_APP_NOT_CONFIGURED', detail: /FB_APP_ID/ } })
  t.match(await ask(pair, service, app.id), [400, 'META_CODE_INVALID'], 'a code of another app')
})

type Body = Partial<Record<'code' | 'waba_id' | 'phone_number_id' | 'redirect_uri', string>>

/** Checks that an onboarding is refused so, with advice, after sending its code `times` times, and leaves the tenant's row as it was. */
async function refused (t: Test, expected: [status: number, code: string], body: Body = {}, { tenant = newTenant(), at = service, times = 1 } = {}): Promise<void> {
  const before = await rows(tenant, at)
  const began = meta.requests.length
  const code = body.code ?? issue(at === bare ? { app_id: own.app_id } : {})
  const { status, headers, body: problem } = await onboard(tenant, { ...body, code }, at)
  t.same([status, problem.code], expected)
  t.match(problem.detail, /\b(Start|Send|Check|Grant|Try again|Store)\b/, 'says what to do')
  // The limit is one of an hour.
  t.equal(headers['retry-after'], status === 503 ? problem.code === 'META_RATE_LIMITED' ? '300' : '5' : undefined)
  t.same(await rows(tenant, at), before, 'the row is as it was')
  t.equal(meta.requests.slice(began).filter(({ form }) => form['code'] === code).length, times)
  const given = JSON.stringify(problem)
  const secrets = [...meta.state.codes.keys(), ...meta.state.tokens.keys(), app.secret, own.app_secret]
  t.same(secrets.filter((secret) => given.includes(secret)), [], 'gives nothing away')
}

const oldRow = { waba_id: 'old', access_token: 'old', token_expires_at: '2030-01-01T00:00:00Z', fb_app_id: own.app_id, fb_app_secret: own.app_secret }

await t.test('each refusal of Meta has its code', async (t) => {
  const redirect = { redirect_uri: 'https://a.example/cb' }
  const used = issue()
  await onboard(newTenant(), { code: used })
  const table: Array<[number, string, () => Body]> = [
    [400, 'META_CODE_USED', () => ({ code: used })],
    [400, 'META_CODE_EXPIRED', () => ({ code: issue({ age: 31 }) })],
    [400, 'META_CODE_INVALID', () => ({ code: 'x' })],
    [400, 'META_REDIRECT_MISMATCH', () => redirect],
    [400, 'META_REDIRECT_MISMATCH', () => ({ code: issue(redirect) })],
    [400, 'META_REDIRECT_MISMATCH', () => ({ code: issue(redirect), redirect_uri: `${redirect.redirect_uri}/` })],
    [403, 'META_WABA_NOT_ACCESSIBLE', () => ({ waba_id: '404' })],
    [403, 'META_WABA_NOT_ACCESSIBLE', () => ({ code: issue({ waba_ids: [] }) })],
    [403, 'META_PHONE_NOT_IN_WABA', () => ({ phone_number_id: '251' })],
    [403, 'META_PERMISSION_MISSING', () => ({ code: issue({ scopes: ['public_profile'] }) })]
  ]
  const tenant = await existing({ ...oldRow, fb_app_id: null })
  for (const [status, code, body] of table) {
    await refused(t, [status, code], body())
    await refused(t, [status, code], body(), { tenant })
  }
})

await t.test('whatever goes wrong in whichever call, the code is not sent again', async (t) => {
  const table: Array<[number, string, Fault]> = [
    [400, 'META_TOKEN_INVALID', { patch: { data: { is_valid: false } } }],
    [502, 'META_APP_REJECTED', { reply: new GraphError(400, 101, 'Error validating application.') }],
    [502, 'META_UNEXPECTED_REPLY', faults.unreadable],
    [502, 'META_UNEXPECTED_REPLY', faults.oversized],
    [502, 'META_UNEXPECTED_REPLY', faults.redirect('https://elsewhere.example/')],
    [503, 'META_RATE_LIMITED', { reply: throttled(80007) }],
    [503, 'META_UNAVAILABLE', { reply: temporarilyDown() }],
    [503, 'META_UNAVAILABLE', faults.badGateway],
    [503, 'META_UNAVAILABLE', faults.dropBefore],
    [503, 'META_UNAVAILABLE', faults.dropAfter],
    [504, 'META_TIMEOUT', { latency_ms: 60_000 }]
  ]
  const tenant = await existing(oldRow, bare)
  for (const route of ROUTES) {
    for (const [status, code, fault] of table) {
      // Only debug_token has such a member.
      if ('patch' in fault && code === 'META_TOKEN_INVALID' && route !== 'debug_token') continue
      meta.fail(route, fault)
      await refused(t, [status, code], {}, { tenant, at: bare })
    }
  }
  meta.fail('phone_numbers', { reply: tokenRefused(460, 401) })
  await refused(t, [400, 'META_TOKEN_INVALID'], {}, { tenant, at: bare })
})

await t.test('Meta knows another secret of the app', async (t) => {
  const secret = own.app_secret
  const tenant = await existing(oldRow, bare)
  own.app_secret = 'changed at Meta'
  await refused(t, [502, 'META_APP_REJECTED'], {}, { tenant, at: bare })
  own.app_secret = secret
})

await t.test('a secret that does not open, or a claim that is none, never gets to Meta', async (t) => {
  const tenant = await existing(oldRow, bare)
  await query(bare.databaseUrl, 'update tenant_configs set fb_app_secret = access_token where tenant_id = $1', [tenant])
  await refused(t, [500, 'SECRET_UNREADABLE'], {}, { tenant, at: bare, times: 0 })
  for (const claim of [{ waba_id: '..' }, { phone_number_id: '' }, { code: ' AQ' }, { redirect_uri: '/cb' }, { code: 'x'.repeat(2049) }]) {
    t.match(await onboard(newTenant(), claim), { status: 400, body: { code: 'VALIDATION_FAILED' } })
  }
  t.same(meta.requests, [])
})

await t.test('the number of another tenant stays with it', async (t) => {
  const holder = newTenant()
  await onboard(holder, { phone_number_id: '250' })
  const held = await rows(holder)
  await refused(t, [409, 'PHONE_NUMBER_TAKEN'], { phone_number_id: '250' })
  await refused(t, [409, 'PHONE_NUMBER_TAKEN'], { phone_number_id: '250' }, { tenant: await existing({ ...oldRow, fb_app_id: null }) })
  t.same(await rows(holder), held)
})

await t.test('two onboardings of a tenant at once: both succeed, one of them stays, whole', async (t) => {
  const tenant = newTenant()
  const claims = [{ phone_number_id: '248' }, { phone_number_id: '249' }]
  const replies = await Promise.all(claims.map(async (claim) => await onboard(tenant, claim)))
  t.same(replies.map(({ status }) => status).sort(), [200, 201])
  const { json } = await service.app.inject({ url: '/api/v1/tenant/config', headers: service.as(tenant) })
  t.same([json()], replies.filter(({ status }) => status === 200).map(({ body }) => body))
})

await t.test('the loader serves the new values at once', async (t) => {
  const tenant = newTenant()
  const { configLoader } = service.app
  t.equal((await configLoader.forTenant(tenant)).getAccessToken(), null)
  for (const phone of ['246', '247']) {
    await onboard(tenant, { phone_number_id: phone })
    t.match(await configLoader.getWhatsappConfig(tenant), { phone_id: phone, waba_id: waba.id, access_token: lastToken() })
  }
})
