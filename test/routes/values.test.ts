import type { Test } from 'tap'
import t from '../run/tap.js'
import { client, config, configs, full, onboard } from './client.js'

const { as, admin, call, rows } = await client(t)
const tenant = as('acme')
const fresh = as('fresh')
await call(tenant, 'POST', config, full)
const before = await rows()

const ids = ['waba_id', 'phone_number_id', 'fb_app_id']
const secrets = ['access_token', 'fb_app_secret', 'verify_token', 'refresh_token']
const urls = ['callback_url', 'redirect_url', 'redirect_uri']
const texts = [...ids, ...secrets, 'code', 'state']
/** The other routes of the onboarding that accept a body, by the field that each accepts. */
const begins = { redirect_uri: `${onboard}/start`, config_id: `${onboard}/start`, phone_number_id: `${onboard}/resume` }
const claims = { code: 'AQD', waba_id: '1', phone_number_id: '2' }

/** Sends the value of one field to every route that accepts the field; returns the answers. */
async function answers (field: string, value: unknown) {
  const found = []
  if (field in full) {
    found.push(
      await call(tenant, 'PUT', config, { [field]: value }),
      await call(fresh, 'POST', config, { [field]: value })
    )
  }
  if (field in claims || ['redirect_uri', 'state'].includes(field)) {
    found.push(await call(fresh, 'POST', onboard, { ...claims, [field]: value }))
  }
  for (const [name, url] of Object.entries(begins)) {
    if (name === field && value !== null) {
      found.push(await call(fresh, 'POST', url, { [field]: value }))
    }
  }
  return found
}

/** Asserts that every value is refused under the name of its field, and that no row changes. */
async function refused (t: Test, fields: string[], values: unknown[], code = 'VALIDATION_FAILED') {
  for (const field of fields) {
    for (const value of values) {
      for (const { is, body } of await answers(field, value)) {
        t.equal(is, `400 ${code}`, `${field} ${JSON.stringify([value]).replace(/[^ -~]/g, '?').slice(0, 60)}`)
        if (code === 'VALIDATION_FAILED') t.match(body.errors, [{ field, message: /^must / }])
      }
    }
  }
  t.same(await rows(), before)
}

await t.test('a value of a wrong type is refused', async (t) => {
  await refused(t, [
    ...texts, ...urls, 'token_expires_at'
  ], [0, 1, -1.5, 1e300, true, false, [], ['x'], {}, { a: 1 }, '', [null]])
  await refused(t, ['code', 'redirect_uri', 'state'], [null])
  await refused(t, ['config_id'], [0, true, [], {}, ''])
  for (const field of ['waba_id', 'phone_number_id']) {
    t.equal(
      (await call(fresh, 'POST', onboard, { ...claims, [field]: null })).is,
      '400 VALIDATION_FAILED'
    )
  }
})

await t.test('text with control characters, lone surrogates or outer blanks is refused', async (t) => {
  const controls = ['\0', '\x01', '\n', '\r', '\t', '\x1b', '\x7f', '\x85', '\x9f', '\ud800', '\udfff', '\udc00\ud800']
  const blanks = [' ', '\u00a0', '\ufeff', '\u2028', '\u3000', '\u1680']
  await refused(t, texts, [
    ...controls.map((bad) => `a${bad}b`),
    ...blanks.flatMap((blank) => [blank, `${blank}a`, `a${blank}`])
  ])
})

await t.test('an access token that an HTTP header cannot carry is refused', async (t) => {
  const errors = [{ field: 'access_token', message: 'must be visible ASCII without blanks: an HTTP header carries it' }]
  for (const access_token of [
    'a b', '\u00e9', 'a\u00ff', '\u0442\u043e\u043a\u0435\u043d', 'a\u200bb', '\u{1f600}', '\uff21', 'a\x7f', 'a\x1f'
  ]) {
    for (const [who, method, url] of [
      [tenant, 'PUT', config], [fresh, 'POST', config], [tenant, 'POST', `${config}/verify`]
    ] as const) {
      const { is, body } = await call(who, method, url, { access_token })
      t.strictSame(
        [is, body['errors']],
        ['400 VALIDATION_FAILED', errors],
        `${method} ${url} ${encodeURIComponent(access_token)}`
      )
    }
  }
  t.same(await rows(), before)
})

await t.test('a value over the maximum number of characters is refused', async (t) => {
  for (const [fields, longest] of [
    [[...ids, 'fb_app_secret', 'verify_token'], 255], [['access_token', 'refresh_token'], 4096], [['code'], 2048],
    [['state'], 512], [['config_id'], 255]
  ] as const) {
    await refused(t, [...fields], ['x'.repeat(longest + 1), '😀'.repeat(longest + 1)])
  }
  const url = (length: number, end = '') => `https://a.example/${'x'.repeat(length - 18 - [...end].length)}${end}`
  await refused(t, ['callback_url', 'redirect_url'], [url(501), url(501, '😀')])
  await refused(t, ['redirect_uri'], [url(2049)])
})

await t.test('an id of . or .. is refused', async (t) => {
  await refused(t, ids, ['.', '..'])
})

await t.test('a refusal contains the rule of its field, and not the value', async (t) => {
  const clean = 'hold control characters or lone surrogates, nor begin or end with a blank'
  for (const value of ['..', 'a\nb', 'a\ud800', ' a']) {
    const ofSecret = (field: string) => [
      field,
      field === 'access_token' ? 'must be visible ASCII without blanks: an HTTP header carries it' : `must not ${clean}`
    ]
    for (const [field, message] of [
      ...ids.map((field) => [field, `must not be . or .., ${clean}`]),
      ...value === '..' ? [] : secrets.map(ofSecret)
    ]) {
      for (const { body } of await answers(String(field), value)) t.strictSame(body.errors, [{ field, message }])
    }
  }
  // A tenant's id may be . or begin or end with a blank.
  for (const [method, url, field] of [
    ['GET', `${configs}/all?tenant_id=a%00`, 'tenant_id'],
    ['DELETE', `${configs}/delete-tenant/a%0a`, 'id']
  ] as const) {
    t.strictSame(
      (await call(admin, method, url)).body.errors,
      [{ field, message: 'must not hold control characters or lone surrogates' }]
    )
  }
  t.strictSame(
    await answers('code', ' ').then(([answer]) => answer?.body.errors),
    [{ field: 'code', message: `must not ${clean}` }]
  )
})

await t.test('a masked value is refused as a secret', async (t) => {
  await refused(t, secrets, ['****', '****1234', '*****', '****a-longer-text-with-a-mask-before'], 'MASKED_VALUE')
})

await t.test('an invalid or unsafe URL is refused', async (t) => {
  await refused(t, urls, [
    'a.example', '//a.example', '/path', 'https:', 'https://', 'https:a.example', 'https:/a.example',
    'https:///a.example', 'https:\\\\a.example',
    'http://a.example', 'http://127.0.0.2', 'http://localhost.example', 'http://localhost@a.example', 'http://10.0.0.1',
    'ftp://a.example', 'javascript:alert(1)',
    'data:text/plain,x', 'file:///etc/passwd', 'JAVASCRIPT://a.example/%0aalert(1)', 'https://u:p@a.example',
    'https://u@a.example', 'https://@a.example',
    'https://:@a.example', 'https://a.example\\@b.example', 'https://a.example/\\b', 'https://a.example/a b',
    'https://a b.example', 'https://a.example/\u00a0x',
    'https://a.example:99999', 'https://a.example:x', 'https://[::1', 'https://a.example/\n', 'https://a\t.example',
    ' https://a.example', 'https://a.example ',
    'https://a.example/\0', 'https://a.example/\ud800', 'https://%', 'https://a..example:0x1'
  ])
})

await t.test('an invalid or ambiguous date is refused', async (t) => {
  await refused(t, ['token_expires_at'], [
    '2026-02-30T00:00:00Z', '2026-02-29T00:00:00Z', '2100-02-29T00:00:00Z', '2026-04-31T00:00:00Z',
    '2026-13-01T00:00:00Z', '2026-00-01T00:00:00Z', '2026-01-00T00:00:00Z',
    '2026-01-01T24:00:00Z', '2026-01-01T25:00:00Z', '2026-01-01T00:60:00Z', '2026-06-30T23:59:60Z',
    '2026-01-01T00:00:61Z',
    '2026-01-01', '2026-01-01T00:00:00', '2026-01-01 00:00:00Z', '2026-01-01T00:00Z', '2026-01-01T00:00:00+0100',
    '2026-01-01T00:00:00+01', '2026-01-01T00:00:00+24:00',
    '2026-01-01T00:00:00+01:60', '2026-01-01T00:00:00.Z', '2026-01-01T00:00:00,5Z', '2026-01-01T00:00:00.1234567890Z',
    '2026-1-1T00:00:00Z', '26-01-01T00:00:00Z',
    '0000-01-01T00:00:00Z', '0001-01-01T00:00:00+00:01', '9999-12-31T23:59:59-00:01', '9999-12-31T00:30:00-23:59',
    '10000-01-01T00:00:00Z', '+010000-01-01T00:00:00Z',
    '-0001-01-01T00:00:00Z', 'now', 'infinity', 'tomorrow', '1767225600', ' 2026-01-01T00:00:00Z',
    '2026-01-01T00:00:00Z ', '2026-01-01T00:00:00Z\n', '２026-01-01T00:00:00Z'
  ])
})

await t.test('a read-only or unknown field is refused', async (t) => {
  for (const field of [
    'id', 'tenant_id', 'user_id', 'is_active', 'onboarding_completed', 'onboarded_at', 'last_verified_at', 'created_at',
    'updated_at', 'acces_token',
    'ACCESS_TOKEN', 'accessToken', 'constructor', 'toString', 'hasOwnProperty', 'EAAGm0PX4ZCpsBA', 'a b', ''
  ]) {
    const shown = /^[a-z_]+$/.test(field) ? field : '(a field that is not shown)'
    for (const [who, method, url, body] of [
      [tenant, 'PUT', config, full], [fresh, 'POST', config, full], [fresh, 'POST', onboard, claims]
    ] as const) {
      const { is, body: problem } = await call(who, method, url, { ...body, [field]: 'x' })
      t.strictSame(
        [is, problem.errors],
        ['400 VALIDATION_FAILED', [{ field: shown, message: 'is not a field of this request' }]],
        field
      )
    }
  }
  for (const url of [`${onboard}/start`, `${onboard}/resume`]) {
    t.strictSame(
      (await call(fresh, 'POST', url, { acces_token: 'x' })).body.errors,
      [{ field: 'acces_token', message: 'is not a field of this request' }]
    )
  }
  const { is, body } = await call(fresh, 'POST', onboard, { ...claims, code: undefined })
  t.strictSame([is, body.errors], ['400 VALIDATION_FAILED', [{ field: 'code', message: 'is required' }]])
  t.same(await rows(), before)
})

await t.test('a refusal never repeats the refused value', async (t) => {
  const secret = 'EAAGcanary0123456789'
  for (const body of [
    { access_token: [secret] }, { access_token: `${secret}\n` }, { callback_url: secret }, { token_expires_at: secret },
    { access_token: `****${secret}` }, { [secret]: 1 }, secret, [secret]
  ]) {
    const answer = await call(tenant, 'PUT', config, JSON.stringify(body), { 'content-type': 'application/json' })
    t.match(answer.is, /^400/)
    t.notMatch(JSON.stringify(answer.body), secret)
  }
})

await t.test('the longest and most unusual valid values are accepted', async (t) => {
  const longest = (character: string) => ({
    ...Object.fromEntries(texts.map((field) => [field, character.repeat(field === 'refresh_token' ? 4096 : 255)])),
    access_token: 'x'.repeat(4096),
    callback_url: `https://a.example/${character.repeat(482)}`,
    redirect_url: `https://[::1]:8443/?${character.repeat(480)}`,
    code: undefined,
    state: undefined
  })
  for (const body of [
    longest('x'),
    longest('é'),
    // 4-byte characters in every field at once would exceed the limit of the body.
    ...Object.entries(longest('😀')).map(([field, value]) => ({ [field]: value })).filter(
      (body) => JSON.stringify(body) !== '{}'
    ),
    {
      waba_id: '...',
      phone_number_id: '../x',
      fb_app_id: '%2e%2e',
      verify_token: '***',
      fb_app_secret: "'; drop table tenant_configs; --",
      access_token: '!"\\%{x}~',
      refresh_token: 'a b\u200b\\"%{x}'
    },
    { callback_url: 'http://LOCALHOST:3000/x#y', redirect_url: 'http://127.0.0.1' },
    { callback_url: 'http://[::1]:1/', redirect_url: 'HTTPS://exämple.de/%zz?@=@' }
  ]) {
    const { is } = await call(tenant, 'PUT', config, body)
    t.equal(is, '200')
    t.match((await call(tenant, 'GET', `${config}/full`)).body, JSON.parse(JSON.stringify(body)))
  }
})

await t.test('a date is returned as the same moment in UTC', async (t) => {
  for (const [sent, read] of [
    ['2026-02-28T23:59:59Z', '2026-02-28T23:59:59.000000Z'],
    ['2028-02-29T12:00:00.5+02:00', '2028-02-29T10:00:00.500000Z'],
    ['2026-01-01t00:00:00z', '2026-01-01T00:00:00.000000Z'],
    ['2026-01-01T00:00:00-00:00', '2026-01-01T00:00:00.000000Z'],
    ['2026-01-01T00:00:00+23:59', '2025-12-31T00:01:00.000000Z'],
    ['2026-01-01T00:00:00-23:59', '2026-01-01T23:59:00.000000Z'],
    ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00.000000Z'],
    ['9999-12-31T23:59:59.999999999Z', '9999-12-31T23:59:59.999000Z']
  ] as const) t.equal((await call(tenant, 'PUT', config, { token_expires_at: sent })).body.token_expires_at, read, sent)
})
