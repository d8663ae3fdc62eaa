import t from '../run/tap.js'
import { config, configs, full, onboard } from './client.js'
import { claims, ids, secrets, texts, urls, valuesService } from './values-service.js'

const {
  admin, call, rows, tenant, tenantWithoutRow, before, answers, assertRefused
} = await valuesService(t)

await t.test('a value of a wrong type is refused', async (t) => {
  await assertRefused(
    t,
    [...texts, ...urls, 'token_expires_at'],
    [0, 1, -1.5, 1e300, true, false, [], ['x'], {}, { a: 1 }, '', [null]]
  )
  await assertRefused(t, ['code', 'redirect_uri', 'state'], [null])
  await assertRefused(t, ['config_id'], [0, true, [], {}, ''])
  for (const field of ['waba_id', 'phone_number_id']) {
    const { is } = await call(tenantWithoutRow, 'POST', onboard, { ...claims, [field]: null })
    t.equal(is, '400 VALIDATION_FAILED')
  }
})

await t.test('text with control characters, lone surrogates or outer blanks is refused', async (t) => {
  const controls = ['\0', '\x01', '\n', '\r', '\t', '\x1b', '\x7f', '\x85', '\x9f', '\ud800', '\udfff', '\udc00\ud800']
  const blanks = [' ', '\u00a0', '\ufeff', '\u2028', '\u3000', '\u1680']
  await assertRefused(t, texts, [
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
      [tenant, 'PUT', config], [tenantWithoutRow, 'POST', config], [tenant, 'POST', `${config}/verify`]
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
    await assertRefused(t, [...fields], ['x'.repeat(longest + 1), '😀'.repeat(longest + 1)])
  }
  const url = (length: number, end = '') => `https://a.example/${'x'.repeat(length - 18 - [...end].length)}${end}`
  await assertRefused(t, ['callback_url', 'redirect_url'], [url(501), url(501, '😀')])
  await assertRefused(t, ['redirect_uri'], [url(2049)])
})

await t.test('an id of . or .. is refused', async (t) => {
  await assertRefused(t, ids, ['.', '..'])
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
  await assertRefused(t, secrets, ['****', '****1234', '*****', '****a-longer-text-with-a-mask-before'], 'MASKED_VALUE')
})

await t.test('a read-only or unknown field is refused', async (t) => {
  for (const field of [
    'id', 'tenant_id', 'user_id', 'is_active', 'onboarding_completed', 'onboarded_at', 'last_verified_at', 'created_at',
    'updated_at', 'acces_token',
    'ACCESS_TOKEN', 'accessToken', 'constructor', 'toString', 'hasOwnProperty', 'EAAGm0PX4ZCpsBA', 'a b', ''
  ]) {
    const shown = /^[a-z_]+$/.test(field) ? field : '(a field that is not shown)'
    for (const [who, method, url, body] of [
      [tenant, 'PUT', config, full],
      [tenantWithoutRow, 'POST', config, full],
      [tenantWithoutRow, 'POST', onboard, claims]
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
      (await call(tenantWithoutRow, 'POST', url, { acces_token: 'x' })).body.errors,
      [{ field: 'acces_token', message: 'is not a field of this request' }]
    )
  }
  const { is, body } = await call(tenantWithoutRow, 'POST', onboard, { ...claims, code: undefined })
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
