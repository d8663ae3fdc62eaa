import { createHmac } from 'node:crypto'
import t from '../run/tap.js'
import { callerOf } from './http/client.js'
import { startGraph } from './server.js'

const graph = await startGraph()
const { state } = graph
const { call } = callerOf(graph)
t.teardown(() => graph.close())

const REDIRECT = 'https://app.example/callback'
const app = state.addApp({ redirect_uris: [REDIRECT] })
const anyRedirect = state.addApp()
const strict = state.addApp({ require_proof: true })
const ours = { client_id: app.app_id, client_secret: app.app_secret }
const phones = ['p5', 'p4', 'p3', 'p2', 'p1'].map(id => ({ id, registered: true }))
const waba = state.addWaba({ id: '102290129340398', app_ids: [app.app_id, strict.app_id], phones })
const foreignWaba = state.addWaba({ app_ids: [anyRedirect.app_id] })

const exchange = (params: Record<string, string>) => call('/v26.0/oauth/access_token', params)
const list = (token: string, params: Record<string, string> = {}, id = waba.id) =>
  call(`/v26.0/${id}/phone_numbers`, params, { bearer: token })
const proof = (secret: string, token: string) => createHmac('sha256', secret).update(token).digest('hex')

await t.test('access_token: a valid code is exchanged, by GET and by POST', async t => {
  const dialog = { app_id: app.app_id, redirect_uri: REDIRECT }
  for (const [name, code, extra] of [
    ['a code of the JavaScript SDK, without redirect_uri', state.issueCode({ app_id: app.app_id }), {}],
    ['the same with an empty one', state.issueCode({ app_id: app.app_id }), { redirect_uri: '' }],
    ['a code of the dialog, with its redirect_uri', state.issueCode(dialog), { redirect_uri: REDIRECT }],
    [
      'a code just short of 30 s', state.issueCode({ app_id: app.app_id, age: 28 }),
      { grant_type: 'authorization_code' }
    ]
  ] as const) {
    t.match(code, /^AQ[\w-]{74,}$/, name)
    const { status, headers, body } = await exchange({ ...ours, code, ...extra })
    t.equal(status, 200, name)
    t.match(headers.get('content-type'), 'application/json; charset=UTF-8')
    t.match(body.access_token, /^EAA[A-Za-z0-9]{60,}$/)
    t.strictSame({ ...body, access_token: '' }, { access_token: '', token_type: 'bearer', expires_in: 5183944 })
    t.ok(state.codes.get(code)?.used)
  }

  const posted = await call(
    '/v26.0/oauth/access_token',
    {},
    { form: { ...ours, code: state.issueCode({ app_id: app.app_id }) } }
  )
  t.equal(posted.status, 200, 'a POSTed form')
  const forEver = await exchange({ ...ours, code: state.issueCode({ app_id: app.app_id, expires_in: 0 }) })
  t.notOk('expires_in' in forEver.body, 'a token that never expires')
  const appToken = await exchange({ ...ours, grant_type: 'client_credentials' })
  t.strictSame(appToken.body, { access_token: app.app_token, token_type: 'bearer' })
  t.ok(app.app_token.startsWith(`${app.app_id}|`))
})

await t.test('access_token: refusals follow the order of the checks, and none uses the code', async t => {
  const sdk = { ...ours, code: state.issueCode({ app_id: app.app_id }) }
  const dialog = { ...ours, code: state.issueCode({ app_id: app.app_id, redirect_uri: REDIRECT }) }
  const anyone = { client_id: anyRedirect.app_id, client_secret: anyRedirect.app_secret }
  const used = { ...ours, code: state.issueCode({ app_id: app.app_id, age: 28 }) }
  await exchange(used)
  const usedAndOld = state.codes.get(used.code)
  if (usedAndOld) usedAndOld.issued_at -= 60

  const rows: Array<[string, Record<string, string>, number, number | undefined, string, string]> = [
    ['no client_id', { client_secret: 'x' }, 101, undefined, 'Missing client_id parameter.', 'invalid_client'],
    [
      'unknown app',
      { client_id: '1', client_secret: 'x' },
      101,
      undefined,
      'Error validating application. Invalid application ID.',
      'invalid_client'
    ],
    [
      'wrong secret, even with a used code', { ...used, client_secret: 'x' }, 1, undefined,
      'Error validating client secret.', 'invalid_client'
    ],
    [
      'wrong secret, app token',
      { ...ours, client_secret: 'x', grant_type: 'client_credentials' },
      1,
      undefined,
      'Error validating client secret.',
      'invalid_client'
    ],
    ['unknown grant', { ...sdk, grant_type: 'password' }, 100, undefined, 'Invalid grant_type', 'invalid_request'],
    ['no code', ours, 1, undefined, 'Missing authorization code', 'invalid_code'],
    ['malformed code', { ...ours, code: 'x' }, 100, undefined, 'Invalid verification code format.', 'invalid_code'],
    ['code of another app', { ...sdk, ...anyone }, 100, undefined, 'Invalid verification code format.', 'invalid_code'],
    ['used, before expired', used, 100, 36009, 'This authorization code has been used.', 'invalid_code'],
    [
      'expired, before redirect',
      { ...ours, code: state.issueCode({ app_id: app.app_id, age: 30 }), redirect_uri: 'x' },
      100,
      36007,
      'This authorization code has expired.',
      'invalid_code'
    ],
    ['redirect_uri missing', dialog, 191, undefined, 'Missing redirect_uri parameter.', 'invalid_request'],
    [
      'redirect_uri not absolute',
      { ...dialog, redirect_uri: '/callback' },
      191,
      undefined,
      "redirect_uri isn't an absolute URI. Check RFC 3986.",
      'invalid_request'
    ],
    [
      'redirect_uri of a foreign domain',
      { ...dialog, redirect_uri: 'https://evil.example/callback' },
      191,
      undefined,
      "Can't load URL",
      'invalid_request'
    ],
    [
      'redirect_uri differs',
      { ...dialog, redirect_uri: `${REDIRECT}/` },
      100,
      36008,
      'identical to the one you used in the OAuth dialog request',
      'invalid_code'
    ],
    ['redirect_uri for a code of the SDK', { ...sdk, redirect_uri: REDIRECT }, 100, 36008, 'identical', 'invalid_code'],
    [
      'redirect_uri differs, no domain registered',
      {
        ...anyone,
        code: state.issueCode({ app_id: anyRedirect.app_id, redirect_uri: REDIRECT }),
        redirect_uri: 'https://b.example/'
      },
      100,
      36008,
      'identical',
      'invalid_code'
    ]
  ]
  for (const [name, params, code, subcode, message, challenge] of rows) {
    const { status, headers, body } = await exchange(params)
    t.equal(status, 400, name)
    t.match(body.error, { type: 'OAuthException', code, message }, name)
    t.equal(body.error.error_subcode, subcode, name)
    t.match(body.error.fbtrace_id, /^A[\w-]{22}$/)
    t.ok(headers.get('www-authenticate')?.startsWith(`OAuth "Facebook Platform" "${challenge}" "`), name)
  }
  for (const params of [
    sdk, { ...dialog, redirect_uri: REDIRECT }
  ]) t.equal((await exchange(params)).status, 200, 'the code is still good')
  t.throws(() => state.issueCode({ app_id: app.app_id, redirect_uri: 'https://evil.example/' }), /unregistered/)
  t.throws(() => state.issueCode({ app_id: '1' }), /no app/)
})

await t.test('access_token: one of several concurrent exchanges gets the token', async t => {
  const params = { ...ours, code: state.issueCode({ app_id: app.app_id }) }
  const all = await Promise.all(Array.from({ length: 10 }, async () => (await exchange(params)).status))
  t.equal(all.filter(status => status === 200).length, 1)
})

await t.test('debug_token', async t => {
  const input = state.issueToken({ app_id: app.app_id, waba_ids: [waba.id] })
  const debug = (token: string, access: string) => call('/v26.0/debug_token', {
    input_token: token,
    access_token: access
  })

  await t.test('tokens of the same app may ask', async t => {
    for (const access of [app.app_token, `${app.app_id}|${app.app_secret}`, input]) {
      t.equal((await debug(input, access)).body.data.is_valid, true)
      t.equal((await call('/v26.0/debug_token', { input_token: input }, { bearer: access })).status, 200)
    }
    for (const [access, code] of [[`${app.app_id}|wrong`, 190], ['1|wrong', 101], ['garbage', 190]] as const) {
      const { status, body } = await debug(input, access)
      t.match({ status, code: body.error.code }, { status: 400, code })
    }
    t.match((await debug(input, anyRedirect.app_token)), {
      status: 400,
      body: { error: { code: 100, message: '(#100) The App_id in the input_token did not match the Viewing App' } }
    })
    t.match((await debug('', app.app_token)), { status: 400, body: { error: { code: 100 } } })
  })

  await t.test('a valid token is described', async t => {
    const before = Math.floor(Date.now() / 1000)
    const { data } = (await debug(input, app.app_token)).body
    t.match(data, {
      app_id: app.app_id,
      type: 'SYSTEM_USER',
      is_valid: true,
      data_access_expires_at: 0,
      user_id: /^\d+$/
    })
    t.ok(Math.abs(data.expires_at - before - 5183944) < 5)
    t.strictSame(data.scopes, ['whatsapp_business_management', 'whatsapp_business_messaging', 'public_profile'])
    t.strictSame(data.granular_scopes, [
      { scope: 'whatsapp_business_management', target_ids: [waba.id] },
      { scope: 'whatsapp_business_messaging', target_ids: [waba.id] }
    ])
    const byHand = (await debug(state.issueToken({ app_id: app.app_id, expires_in: 0 }), app.app_token)).body.data
    t.equal(byHand.expires_at, 0)
    t.strictSame(byHand.granular_scopes[0], { scope: 'whatsapp_business_management' })
    t.match((await debug(app.app_token, app.app_token)).body.data, { type: 'APP', is_valid: true })
  })

  await t.test('an invalid input token is answered with is_valid: false', async t => {
    const revoked = state.issueToken({ app_id: app.app_id })
    const token = state.tokens.get(revoked)
    if (token) token.revoked = 458
    for (const [bad, subcode] of [
      [state.issueToken({ app_id: app.app_id, expires_in: -1 }), 463],
      [revoked, 458],
      ['garbage', undefined]
    ] as const) {
      const { status, body } = await debug(bad, app.app_token)
      t.equal(status, 200)
      t.equal(body.data.is_valid, false)
      t.equal(body.data.error.code, 190)
      t.equal(body.data.error.subcode, subcode)
      t.equal('app_id' in body.data, subcode !== undefined)
    }
  })
})

await t.test('phone_numbers: paging returns every number once', async t => {
  const token = state.issueToken({ app_id: app.app_id, waba_ids: [waba.id] })
  for (const limit of ['1', '2', '4']) {
    const seen: string[] = []
    let next: string | undefined
    let after: string | undefined
    do {
      const { status, body } = await list(token, { limit, ...(after !== undefined && { after }) })
      t.equal(status, 200)
      seen.push(...body.data.map((phone: { id: string }) => phone.id))
      after = body.paging.cursors.after
      next = body.paging.next
      if (next) t.match(new URL(next).searchParams.get('after'), after)
    } while (next)
    t.strictSame(seen, phones.map(phone => phone.id), `by ${limit}`)
  }
  const whole = (await list(token)).body
  t.equal(whole.data.length, 5)
  t.notOk('next' in whole.paging, 'no next on the only page')
  t.strictSame(Object.keys(whole.data[0]).sort(), [
    'code_verification_status', 'display_phone_number', 'id', 'last_onboarded_time', 'platform_type', 'quality_rating',
    'throughput', 'verified_name'
  ])
  t.strictSame((await list(token, { fields: 'status', limit: '1' })).body.data, [{ status: 'CONNECTED', id: 'p5' }])
  t.strictSame((await list(token, { after: whole.paging.cursors.after })).body, { data: [] })
  for (const limit of ['0', '101', 'x']) t.equal((await list(token, { limit })).status, 400)
  t.equal((await list(token, { after: 'x' })).status, 400)
})

await t.test('phone_numbers: a token sees only WABAs of its app and its grant', async t => {
  const good = state.issueToken({ app_id: app.app_id, waba_ids: [waba.id] })
  const wide = state.issueToken({ app_id: app.app_id })
  const elsewhere = state.issueToken({ app_id: app.app_id, waba_ids: ['1'] })
  const expired = state.issueToken({ app_id: app.app_id, expires_in: -1 })
  const mute = state.issueToken({ app_id: app.app_id, scopes: ['whatsapp_business_messaging'] })
  const path = `/v26.0/${waba.id}/phone_numbers`
  t.equal((await call(path, { access_token: good })).status, 200, 'as a parameter')
  t.equal((await list(wide)).status, 200, 'not restricted to some WABAs')
  t.equal(
    (await list(state.issueToken({ app_id: app.app_id, scopes: ['whatsapp_business_manage_events'] }))).status,
    200
  )

  for (const [bad, subcode] of [[expired, 463], ['garbage', undefined]] as const) {
    for (const [status, options] of [[401, { bearer: bad }], [400, {}]] as const) {
      const answer = await call(path, { access_token: bad }, options)
      t.equal(answer.status, status)
      t.equal(answer.body.error.code, 190)
      t.equal(answer.body.error.error_subcode, subcode)
      t.match(answer.headers.get('www-authenticate'), 'OAuth "Facebook Platform" "invalid_token"')
    }
  }
  t.match(await call(path), { status: 401, body: { error: { code: 104 } } })
  for (const [token, id] of [
    [elsewhere, waba.id], [good, foreignWaba.id], [wide, foreignWaba.id], [good, '1'], [app.app_token, waba.id]
  ] as const) {
    const { status, headers, body } = await list(token, {}, id)
    t.match({ status, ...body }, {
      status: 400,
      error: { code: 100, error_subcode: 33, type: 'GraphMethodException', message: `'${id}'` }
    })
    t.notOk(headers.has('www-authenticate'))
  }
  t.match(await list(mute), { status: 403, body: { error: { code: 200, message: /^\(#200\)/ } } })
  t.match(await list(good, {}, '%zz'), { status: 500, body: { error: { code: 1 } } })
})

await t.test('a wrong appsecret_proof is refused, and a missing one if the app requires it', async t => {
  const free = state.issueToken({ app_id: app.app_id })
  const bound = state.issueToken({ app_id: strict.app_id })
  const wrong = 'Invalid appsecret_proof provided in the API argument'
  const missing = 'API calls from the server require an appsecret_proof argument'
  const right = proof(strict.app_secret, bound)
  for (const [token, sent, message] of [
    [free, undefined, undefined],
    [free, proof(app.app_secret, free), undefined],
    [free, proof(strict.app_secret, free), wrong],
    [bound, right, undefined],
    [bound, undefined, missing],
    [bound, right.toUpperCase(), wrong],
    [bound, '', wrong]
  ] as const) {
    const { status, body } = await list(token, sent === undefined ? {} : { appsecret_proof: sent })
    t.equal(status, message === undefined ? 200 : 400)
    if (message !== undefined) t.match(body.error, { code: 100, type: 'GraphMethodException', message })
  }
  const { next } = (await list(bound, { appsecret_proof: right, limit: '1', fields: 'id' })).body.paging
  const link = new URL(next).searchParams
  t.strictSame([link.get('access_token'), link.get('fields'), link.has('appsecret_proof')], [bound, 'id', false])
  t.match(await (await fetch(next)).json(), { error: { message: missing } }, 'the link does not carry the proof')
})

await t.test('the answer has the served version and trace ids; an unknown version is refused', async t => {
  for (const [asked, served] of [
    ['v21.0', 'v21.0'], ['v24.0', 'v24.0'], ['v26.0', 'v26.0'], ['v19.0', 'v21.0'], ['v1.0', 'v21.0']
  ] as const) {
    const { status, headers } = await call(`/${asked}/oauth/access_token`, {
      ...ours,
      grant_type: 'client_credentials'
    })
    t.strictSame([status, headers.get('facebook-api-version')], [200, served])
    for (const name of ['x-fb-trace-id', 'x-fb-request-id']) t.match(headers.get(name), /^A[\w-]{22}$/)
    t.match(await call(`/${asked}/me`), {
      status: 400,
      body: { error: { code: 2500, message: 'An active access token must be used' } }
    })
  }
  for (const unknown of ['/v27.0/me', '/v0.0/me', '/v21.1/me', '/me']) {
    t.match(await call(unknown), {
      status: 400,
      body: { error: { type: 'OAuthException', code: 2500, message: 'Unknown path components: /me' } }
    })
  }
})
