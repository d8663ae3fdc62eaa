import t from '../../../run/tap.js'
import { startWithClient } from '../../http/client.js'

const { state, call } = await startWithClient(t)
const REDIRECT = 'https://app.example/callback'
const app = state.addApp({ redirect_uris: [REDIRECT] })
const anyRedirect = state.addApp()
const ours = { client_id: app.app_id, client_secret: app.app_secret }

const exchange = (params: Record<string, string>) => call('/v26.0/oauth/access_token', params)

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
