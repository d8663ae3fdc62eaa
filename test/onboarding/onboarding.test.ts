import { createHmac } from 'node:crypto'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { BLOCK_MS, clock } from '../fixtures/clock.js'
import { GraphError, throttled, tokenRefused } from '../graph/errors.js'
import { faults, type Fault, type Route } from '../graph/faults.js'
import { app, secrets } from '../meta/wire.js'
import { onboardingService, USER, type Body } from './onboarding-service.js'

const service = await onboardingService(t, { GRAPH_TIMEOUT_MS: 1500 })
const {
  meta, waba, post, resume, configure, login, issue, newTenant, existing, asked, row, sql, lastToken, instance
} = service
const own = meta.state.addApp({ app_id: '42', require_proof: true })
waba.app_ids.push(own.app_id)
const bare = await instance({ FB_APP_ID: undefined, FB_APP_SECRET: undefined })

await t.test('a login of a new tenant is exchanged, verified and stored', async (t) => {
  const tenant = newTenant()
  const began = Date.now()
  const { is, body } = await post(tenant, login(tenant, { phone_number_id: '201' }))
  t.equal(is, '201')
  const stored = {
    tenant_id: tenant,
    user_id: USER,
    waba_id: waba.id,
    phone_number_id: '201',
    is_active: true,
    onboarding_completed: true
  }
  t.match(body, { ...stored, access_token: `****${lastToken()?.slice(-4)}` })
  const inDatabase = await row(tenant)
  t.match(inDatabase, { ...stored, access_token: /^v2\.t1\./ })
  for (const column of ['onboarded_at', 'last_verified_at']) {
    t.ok(Math.abs(Date.parse(String(inDatabase?.[column])) - began) < 60_000, column)
  }
  t.match((await configure(tenant, 'GET', undefined, '/full')).body, { access_token: lastToken() })

  // The number is on the third page of the list.
  t.same(asked().map(({ route }) => route), [
    'access_token', 'debug_token', 'phone_numbers', 'phone_numbers', 'phone_numbers', 'subscribe'
  ])
  for (const { query, headers: { authorization = '' } } of asked().slice(1)) {
    t.equal(
      query['appsecret_proof'],
      createHmac('sha256', app.secret).update(authorization.replace('Bearer ', '')).digest('hex')
    )
  }
  t.ok(asked().slice(2).every(({ headers }) => headers.authorization === `Bearer ${lastToken()}`))
})

await t.test('every answer of an onboarding has the entity tag of the stored row', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  const answers = [
    await post(tenant, body), await post(tenant, body), await resume(tenant), await post(tenant, login(tenant))
  ]
  t.strictSame(answers.map(({ is }) => is), ['201', '200', '200', '200'])
  const [first, ...same] = answers.slice(0, 3).map(({ headers }) => headers.etag)
  t.strictSame(same, [first, first])
  t.not(answers[3]?.headers.etag, first)
  t.equal((await configure(tenant, 'GET')).headers.etag, answers[3]?.headers.etag)
})

await t.test('the expiry comes from debug_token, else from the exchange', async (t) => {
  const tenant = newTenant()
  for (const [exchange, debug, expected] of [
    [60, 4102444800, /^2100-01-01T00:00:00/],
    [60, 0, /^null$/],
    [1e9, undefined, /^20[56]\d-/],
    [1e9, null, /^20[56]\d-/],
    [undefined, undefined, /^null$/],
    [null, null, /^null$/]
  ] as const) {
    meta.fail('access_token', { patch: { expires_in: exchange } })
    meta.fail('debug_token', { patch: { data: { expires_at: debug } } })
    t.match(String((await post(tenant, login(tenant))).body['token_expires_at']), expected)
  }
})

await t.test('the redirect_uri is sent to Meta unchanged, or not at all', async (t) => {
  const redirect = { redirect_uri: 'HTTPS://A.example:443/a/../cb/?x=%7e&y=é&z=a+b#_=_' }
  for (const body of [{ code: issue(redirect), ...redirect }, {}]) {
    const tenant = newTenant()
    t.equal((await post(tenant, login(tenant, body))).is, '201')
  }
  t.same(asked('access_token').map(({ form }) => form['redirect_uri']), [redirect.redirect_uri, undefined])
  for (const body of [
    { code: issue(redirect) },
    { code: issue(redirect), redirect_uri: `${redirect.redirect_uri}/` }
  ]) {
    t.equal((await post('x', login('x', body))).is, '400 META_REDIRECT_MISMATCH')
  }
})

await t.test('an onboarding uses the complete app pair of the tenant, else that of the platform', async (t) => {
  const pair = { fb_app_id: own.app_id, fb_app_secret: own.app_secret }
  const ask = async (config: Body, at: Pick<typeof service, 'post'>, appId: string) => {
    meta.requests.length = 0
    const tenant = await existing(config)
    const { is } = await at.post(tenant, login(tenant, { code: issue({ app_id: appId }) }))
    return [is, meta.requests[0]?.form['client_id']]
  }
  t.same(await ask(pair, service, own.app_id), ['200', own.app_id], "the tenant's own app")
  t.same(await ask({ fb_app_id: own.app_id }, service, app.id), ['200', app.id], 'half a pair is not used')
  t.same(await ask({ fb_app_secret: own.app_secret }, service, app.id), ['200', app.id])
  t.same(await ask(pair, bare, own.app_id), ['200', own.app_id])
  t.same(await ask({ fb_app_id: own.app_id }, bare, own.app_id), ['503 META_APP_NOT_CONFIGURED', undefined])
  const tenant = newTenant()
  t.match(await bare.post(tenant, login(tenant)), { is: '503 META_APP_NOT_CONFIGURED', body: { detail: /FB_APP_ID/ } })
  t.same(await ask(pair, service, app.id), ['400 META_CODE_INVALID', own.app_id], 'a code of another app')
})

/** Asserts that an onboarding is refused with advice, sends its code once and does not change the row. */
async function refused (t: Test, expected: string, tenant: string, body: Body): Promise<void> {
  const before = await row(tenant)
  const { is, body: problem } = await bare.post(tenant, body)
  t.equal(is, expected)
  t.match(problem['detail'], /\b(start|send|check|grant|try again|store|name)\b/i, 'the detail advises what to do')
  t.same(await row(tenant), before, 'the row is unchanged')
  t.equal(asked('access_token').filter(({ form }) => form['code'] === body['code']).length, 1)
  const answerText = JSON.stringify(problem)
  t.same(
    [
      ...meta.state.codes.keys(), ...meta.state.tokens.keys(), own.app_secret, ...secrets
    ].filter((secret) => answerText.includes(secret)),
    [],
    'the answer contains no secret'
  )
}

await t.test('a failure of any call to Meta does not send the code again', async (t) => {
  const unknown = '502 META_EXCHANGE_UNKNOWN'
  const table: Array<[exchange: string, later: string, Fault]> = [
    [
      '502 META_APP_REJECTED',
      '502 META_APP_REJECTED',
      { reply: new GraphError(400, 101, 'Error validating application.') }
    ],
    [unknown, '502 META_UNEXPECTED_REPLY', faults.unreadable],
    [unknown, '502 META_UNEXPECTED_REPLY', faults.oversized],
    [unknown, '502 META_UNEXPECTED_REPLY', faults.redirect('https://elsewhere.example/')],
    ['503 META_RATE_LIMITED', '503 META_RATE_LIMITED', { reply: throttled(80007) }],
    [
      '503 META_UNAVAILABLE',
      '503 META_UNAVAILABLE',
      { reply: new GraphError(400, 2, 'Later.', { is_transient: true }) }
    ],
    [unknown, '503 META_UNAVAILABLE', { reply: new GraphError(500, 2, 'Later.', { is_transient: true }) }],
    [unknown, '503 META_UNAVAILABLE', faults.badGateway],
    [unknown, '503 META_UNAVAILABLE', faults.dropBefore],
    [unknown, '503 META_UNAVAILABLE', faults.dropAfter],
    [unknown, '504 META_TIMEOUT', { latency_ms: 60_000 }]
  ]
  const tenant = await existing({
    waba_id: 'old',
    access_token: 'old',
    fb_app_id: own.app_id,
    fb_app_secret: own.app_secret
  })
  const { advance } = clock(t)
  const send = async (expected: string) => {
    const body = login(tenant, { code: issue({ app_id: own.app_id }) })
    await refused(t, expected, tenant, body)
    // For these errors a client may repair the cause and post again; the code must not be sent again.
    if (!/UNAVAILABLE|TIMEOUT|UNEXPECTED/.test(expected)) await refused(t, expected, tenant, body)
    if (expected.includes('RATE')) advance(BLOCK_MS)
  }
  const routes: Route[] = ['access_token', 'debug_token', 'phone_numbers']
  for (const route of routes) {
    for (const [exchange, later, fault] of table) {
      meta.fail(route, fault)
      await send(route === 'access_token' ? exchange : later)
    }
  }
  meta.fail('debug_token', { patch: { data: { is_valid: false } } })
  await send('400 META_TOKEN_INVALID')
  meta.fail('phone_numbers', { reply: tokenRefused(460, 401) })
  await send('400 META_TOKEN_INVALID')
  const secret = own.app_secret
  own.app_secret = 'changed at Meta'
  await send('502 META_APP_REJECTED')
  own.app_secret = secret
})

await t.test('a transient refusal by Meta is final for the code that it received', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  meta.fail('access_token', { reply: new GraphError(400, 2, 'Later.') })
  for (let times = 0; times < 2; times++) {
    t.match(await post(tenant, body), {
      is: '503 META_UNAVAILABLE',
      body: { detail: /new one/ }
    })
  }
  t.equal(asked('access_token').length, 1)
})

await t.test('an unreadable secret or an invalid field is refused without a call to Meta', async (t) => {
  const tenant = await existing({ access_token: 'old', fb_app_id: own.app_id, fb_app_secret: own.app_secret })
  await sql('update tenant_configs set fb_app_secret = access_token where tenant_id = $1', [tenant])
  t.equal((await post(tenant, login(tenant))).is, '500 SECRET_UNREADABLE')
  for (const claim of [
    { waba_id: '..' }, { phone_number_id: '' }, { code: ' AQ' }, { redirect_uri: '/cb' }, { code: 'x'.repeat(2049) },
    { code: undefined }
  ]) {
    t.equal((await post('x', login('x', claim))).is, '400 VALIDATION_FAILED')
  }
  t.same(asked(), [])
})

await t.test('the loader returns the new values as soon as the onboarding has completed', async (t) => {
  const tenant = newTenant()
  const { configLoader } = service.app
  t.equal((await configLoader.forTenant(tenant)).getAccessToken(), null)
  for (const phone of ['246', '247']) {
    await post(tenant, login(tenant, { phone_number_id: phone }))
    // Another number than the tenant has needs a deliberate request.
    t.equal((await resume(tenant, { phone_number_id: phone })).is, '200')
    t.match(await configLoader.getWhatsappConfig(tenant), {
      phone_id: phone,
      waba_id: waba.id,
      access_token: lastToken()
    })
  }
})
