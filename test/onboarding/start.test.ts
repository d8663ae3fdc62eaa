import { createHash } from 'node:crypto'
import t from '../run/tap.js'
import { app } from '../meta/wire.js'
import { onboardingService, USER } from './onboarding-service.js'

const REDIRECT = 'https://tenant.example/oauth/done'
const service = await onboardingService(t)
const { start, post, login, issue, newTenant, existing, asked, records, sql, instance } = service
const own = service.meta.state.addApp({ app_id: '42' })
service.waba.app_ids.push(own.app_id)

/** The stored form of a state. */
const hash = (state: unknown) => createHash('sha256').update(String(state)).digest('base64url')

/** Starts a login and returns its state. */
async function stateOf (tenant: string, user?: string | null): Promise<string> {
  const { is, body } = await start(tenant, { redirect_uri: REDIRECT }, user)
  if (is !== '200') throw new Error(is)
  return String(body['state'])
}

/** Starts a login and returns the query of its dialog URL. */
async function dialogOf (tenant: string, body?: Record<string, unknown>, at: Pick<typeof service, 'start'> = service) {
  const { is, body: { authorization_url: url } } = await at.start(tenant, body)
  return is === '200' ? Object.fromEntries(new URL(String(url)).searchParams) : { is }
}

await t.test('a login returns the URL of the dialog of Meta with a new state', async (t) => {
  const redirectUri = 'https://tenant.example/oauth/done?a=b&c=%7e#x'
  const { is, body } = await start(newTenant(), { redirect_uri: redirectUri })
  t.equal(is, '200')
  t.same(Object.keys(body).sort(), ['authorization_url', 'expires_at', 'state'])
  const { origin, pathname, searchParams } = new URL(String(body['authorization_url']))
  t.same([origin, pathname], ['https://www.facebook.com', '/v26.0/dialog/oauth'])
  t.strictSame(Object.fromEntries(searchParams), {
    client_id: app.id,
    redirect_uri: redirectUri,
    state: body['state'],
    response_type: 'code',
    scope: 'whatsapp_business_management,whatsapp_business_messaging'
  })
  t.match(body['state'], /^[\w-]{43}$/, '256 bits')
  t.ok(Math.abs(Date.parse(String(body['expires_at'])) - Date.now() - 600_000) < 5000, 'ten minutes')
  t.same(asked(), [], 'no call to Meta')
})

await t.test('a dialog with a config_id has no scope', async (t) => {
  const configured = await instance({ FB_LOGIN_CONFIG_ID: 'of the platform', GRAPH_API_VERSION: 'v25.0' })
  for (const [at, body, expected] of [
    [service, { config_id: '77' }, '77'], [configured, {}, 'of the platform'], [configured, { config_id: '77' }, '77']
  ] as const) {
    const {
      config_id: id, scope, response_type: type, override_default_response_type: overrides
    } = await dialogOf(newTenant(), { redirect_uri: REDIRECT, ...body }, at)
    t.same([id, scope, type, overrides], [expected, undefined, 'code', 'true'])
  }
  t.match(
    (await configured.start(newTenant(), { redirect_uri: REDIRECT })).body,
    { authorization_url: /\/v25\.0\/dialog/ }
  )
})

await t.test('the redirect_uri comes from the request, else from the row, else from the platform', async (t) => {
  const platform = await instance({ REDIRECT_URL: 'https://platform.example/cb' })
  const withRow = await existing({ redirect_url: 'https://row.example/cb' })
  for (const [at, tenant, body, expected] of [
    [platform, withRow, { redirect_uri: REDIRECT }, REDIRECT],
    [platform, withRow, {}, 'https://row.example/cb'],
    [platform, withRow, undefined, 'https://row.example/cb'],
    [platform, await existing({ waba_id: '1' }), {}, 'https://platform.example/cb'],
    [platform, newTenant(), undefined, 'https://platform.example/cb'],
    [service, withRow, undefined, 'https://row.example/cb']
  ] as const) t.equal((await dialogOf(tenant, body, at)).redirect_uri, expected)
  const { is, body } = await start(newTenant())
  t.same([is, body['errors']], ['400 VALIDATION_FAILED', [{ field: 'redirect_uri', message: 'is required' }]])
  for (const wrong of [{ redirect_uri: '/cb' }, { redirect_uri: null }, { config_id: '' }, { state: 'x' }, []]) {
    t.equal(
      (await service.call(service.as('x'), 'POST', '/api/v1/tenant/onboard/whatsapp-client/start', wrong)).is,
      '400 VALIDATION_FAILED'
    )
  }
})

await t.test('the allow-list compares exactly and is required in production', async (t) => {
  const listed = await instance({ OAUTH_REDIRECT_URIS: ` ${REDIRECT}, https://b.example/cb ` })
  const production = await instance({ NODE_ENV: 'production', OAUTH_STATE: 'optional' })
  const both = await instance({ NODE_ENV: 'production', OAUTH_STATE: 'optional', OAUTH_REDIRECT_URIS: REDIRECT })
  const refused = [
    `${REDIRECT}/`, `${REDIRECT}?`, REDIRECT.toUpperCase(), REDIRECT.slice(0, -1),
    'https://tenant.example:443/oauth/done', 'https://other.example'
  ]
  for (const [at, uri, isAllowed] of [
    [listed, REDIRECT, true], [listed, 'https://b.example/cb', true], [both, REDIRECT, true],
    ...refused.map((uri) => [listed, uri, false] as const),
    [production, REDIRECT, false], [both, 'https://b.example/cb', false]
  ] as const) {
    const tenant = newTenant()
    t.equal((await at.start(tenant, { redirect_uri: uri })).is, isAllowed ? '200' : '400 REDIRECT_URI_NOT_ALLOWED', uri)
    t.equal(
      (await at.post(tenant, login(tenant, { code: issue({ redirect_uri: uri }), redirect_uri: uri }))).is,
      isAllowed ? '201' : '400 REDIRECT_URI_NOT_ALLOWED',
      uri
    )
    t.equal((await records(tenant)).length, isAllowed ? 1 : 0)
  }
  t.equal(
    (await listed.start(await existing({ redirect_url: 'https://row.example/cb' }))).is,
    '400 REDIRECT_URI_NOT_ALLOWED',
    'the redirect_url of the row is checked too'
  )
  t.equal(asked('access_token').length, 3, 'no other code is sent to Meta')
  const sdk = newTenant()
  t.equal((await production.post(sdk, login(sdk))).is, '201', 'a code of the JavaScript SDK has no redirect_uri')
})

await t.test('the dialog uses the complete app pair of the tenant, else that of the platform', async (t) => {
  const bare = await instance({ FB_APP_ID: undefined, FB_APP_SECRET: undefined })
  const pair = await existing({ fb_app_id: own.app_id, fb_app_secret: own.app_secret })
  const half = await existing({ fb_app_id: own.app_id })
  for (const [at, tenant, expected] of [
    [service, pair, own.app_id], [bare, pair, own.app_id], [service, half, app.id]
  ] as const) {
    t.equal((await dialogOf(tenant, { redirect_uri: REDIRECT }, at)).client_id, expected)
  }
  for (const tenant of [half, newTenant()]) {
    t.equal(
      (await bare.start(tenant, { redirect_uri: REDIRECT })).is,
      '503 META_APP_NOT_CONFIGURED'
    )
  }
  await sql('update tenant_configs set fb_app_secret = $1 where tenant_id = $2', ['garbage', pair])
  t.equal((await start(pair, { redirect_uri: REDIRECT })).is, '500 SECRET_UNREADABLE')
})

await t.test('a state is stored only as its hash, with its tenant and user', async (t) => {
  const tenant = newTenant()
  const state = await stateOf(tenant)
  const [kept, ...others] = await sql(
    'select *, extract(epoch from expires_at - now())::int as left from oauth_states where tenant_id = $1',
    [tenant]
  )
  t.match(kept, { state_hash: hash(state), tenant_id: tenant, user_id: USER })
  t.ok(Number(kept?.['left']) > 590 && Number(kept?.['left']) <= 600)
  t.same(others, [])
  t.notMatch(JSON.stringify(await sql('select * from oauth_states')) + service.log(), state)
  t.not(await stateOf(tenant), state, 'each login has its own state')
})

await t.test('a valid state is accepted once, and a refused one does not consume the code', async (t) => {
  const tenant = newTenant()
  const [mine, other, expired, ofNoUser] = [
    await stateOf(tenant), await stateOf('other'), await stateOf(tenant), await stateOf(tenant, null)
  ]
  await sql('update oauth_states set expires_at = now() where state_hash = $1', [hash(expired)])
  const code = issue()
  for (const [name, state, user] of [
    ['unknown', 'x'.repeat(43)], ['another tenant\'s', other], ['expired', expired],
    ['another user\'s', mine, 'another-user'], ['of a user, sent without a user', mine, null],
    ['without a user, sent by a user', ofNoUser]
  ] as const) {
    t.equal((await post(tenant, login(tenant, { code, state }), user)).is, '400 OAUTH_STATE_INVALID', name)
  }
  t.same(await records(tenant), [])
  t.same(asked(), [])
  t.equal((await post(tenant, login(tenant, { code, state: mine }))).is, '201', 'state and code are unused')
  t.equal((await post(tenant, login(tenant, { state: mine }))).is, '400 OAUTH_STATE_INVALID', 'used')
  t.equal(
    (await post(tenant, login(tenant, { state: ofNoUser }), null)).is,
    '200',
    'a bearer token without a user'
  )
  t.equal((await records(tenant)).length, 2)
})

await t.test('a state is required with OAUTH_STATE=required, and in production by default', async (t) => {
  for (const env of [{ OAUTH_STATE: 'required' }, { NODE_ENV: 'production', OAUTH_REDIRECT_URIS: REDIRECT }]) {
    const strict = await instance(env)
    const tenant = newTenant()
    const body = login(tenant)
    const before = asked().length
    t.equal((await strict.post(tenant, body)).is, '400 OAUTH_STATE_INVALID')
    t.same([await records(tenant), asked().length - before], [[], 0])
    const { body: { state } } = await strict.start(tenant, { redirect_uri: REDIRECT })
    t.equal((await strict.post(tenant, { ...body, state })).is, '201')
    t.equal((await strict.post(tenant, body)).is, '200', 'a known code is answered before the check')
  }
})

await t.test('one of 50 concurrent codes with the same state is sent to Meta', async (t) => {
  const tenant = newTenant()
  const state = await stateOf(tenant)
  const other = await instance()
  const bodies = Array.from({ length: 50 }, () => login(tenant, { state }))
  const answers = await Promise.all(bodies.map(async (body, i) => await (i % 2 ? service : other).post(tenant, body)))
  t.same(answers.map(({ is }) => is).sort(), ['201', ...Array.from({ length: 49 }, () => '400 OAUTH_STATE_INVALID')])
  const winner = bodies[answers.findIndex(({ is }) => is === '201')]
  t.same(asked('access_token').map(({ form }) => form['code']), [winner?.['code']])
  t.equal((await records(tenant)).length, 1)
})
