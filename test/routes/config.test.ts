import t from '../run/tap.js'
import { client, columns, config, full } from './client.js'

const { as, call, rows } = await client(t)
const secrets = { access_token: '****0001', fb_app_secret: '****0002', verify_token: '****', refresh_token: '****0003' }
const shown: Record<string, string> = { ...full, phone_number_id: 'partial-2', ...secrets }
const nothing = Object.fromEntries(Object.keys(full).map((name) => [name, null]))

await t.test('every route answers 404 for a tenant without a configuration', async (t) => {
  const who = as('nobody')
  for (const [method, url] of [
    ['GET', config], ['GET', `${config}/full`], ['DELETE', config], ['POST', `${config}/activate`],
    ['POST', `${config}/deactivate`]
  ] as const) t.equal((await call(who, method, url)).is, '404 CONFIG_NOT_FOUND', `${method} ${url}`)
  t.equal((await call(who, 'PUT', config, { waba_id: '1' })).is, '404 CONFIG_NOT_FOUND')
  t.same(await rows(), [])
})

await t.test('a created configuration is readable, masked and in full', async (t) => {
  const who = as('acme', 'user-1')
  const created = await call(who, 'POST', config, full)
  t.equal(created.is, '201')
  t.equal(created.headers.location, config)
  t.match(created.body, {
    ...full,
    ...secrets,
    id: Number,
    tenant_id: 'acme',
    user_id: 'user-1',
    is_active: true,
    onboarding_completed: false,
    onboarded_at: null,
    last_verified_at: null,
    created_at: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/
  })
  t.equal(created.body.created_at, created.body.updated_at)
  const masked = await call(who, 'GET', config)
  t.strictSame([masked.is, masked.body], ['200', created.body])
  const clear = await call(who, 'GET', `${config}/full`)
  t.strictSame([clear.is, clear.body], ['200', { ...created.body, ...full }])

  t.equal((await call(who, 'POST', config, { waba_id: 'other' })).is, '409 CONFIG_EXISTS')
  t.strictSame((await call(who, 'GET', config)).body, created.body)
  const [row] = await rows()
  t.strictSame(Object.keys(row ?? {}), columns)
  for (const name of Object.keys(secrets)) t.match(row?.[name], /^v2\./)
})

await t.test('the location header is the same for every form of the request URL', async (t) => {
  for (const [i, url] of [`${config}?`, `http://evil.example${config}`].entries()) {
    t.equal((await call(as(`located-${i}`), 'POST', url, { waba_id: '1' })).headers.location, config)
  }
})

await t.test('a mask shows the last four characters of a secret of 16 or more', async (t) => {
  const who = as('masked')
  await call(who, 'POST', config, { waba_id: '1' })
  for (const [secret, mask] of [
    [null, null],
    ['x', '****'],
    ['123456789abcdef', '****'],
    ['123456789abcdefg', '****defg'],
    ['***not-a-mask***', '****k***'],
    ['😀'.repeat(8), '****'],
    ['😀'.repeat(15), '****'],
    ['😀'.repeat(16), '****😀😀😀😀'],
    ['123456789abcdé😀f', '****dé😀f']
  ] as const) {
    // A token is visible ASCII.
    const names = Object.keys(secrets).filter((name) => name !== 'access_token' || /^[!-~]*$/.test(secret ?? ''))
    for (const name of names) {
      const { is, body } = await call(who, 'PUT', config, { [name]: secret })
      t.strictSame([is, body[name]], ['200', mask], `${name} ${secret}`)
    }
    t.match((await call(who, 'GET', `${config}/full`)).body, Object.fromEntries(names.map((name) => [name, secret])))
  }
})

await t.test('PUT keeps an absent field and clears a field that is null', async (t) => {
  const who = as('partial', 'user-1')
  let { body: before } = await call(who, 'POST', config, { ...full, phone_number_id: 'partial' })
  for (const [name, value] of Object.entries({ ...full, phone_number_id: 'partial-2' })) {
    for (const written of [null, value]) {
      const { is, body } = await call(who, 'PUT', config, { [name]: written })
      // A new token clears the expiry of the token that it replaces.
      const expiry = name === 'access_token' ? { token_expires_at: null } : {}
      t.strictSame(
        [is, body],
        ['200', { ...before, ...expiry, [name]: written === null ? null : shown[name], updated_at: body.updated_at }],
        name
      )
      t.ok(String(body.updated_at) > String(before.updated_at))
      before = body
    }
  }
  t.match((await call(who, 'GET', `${config}/full`)).body, { ...full, phone_number_id: 'partial-2' })

  const { is, body } = await call(who, 'PUT', config, nothing)
  t.equal(is, '200')
  t.match(body, { ...nothing, tenant_id: 'partial', user_id: 'user-1', is_active: true })
})

await t.test('POST and PUT require at least one field, which may be null', async (t) => {
  const who = as('empty')
  t.equal((await call(who, 'POST', config, {})).is, '400 VALIDATION_FAILED')
  t.equal((await call(who, 'POST', config, { callback_url: null })).is, '201')
  t.equal((await call(who, 'PUT', config, {})).is, '400 VALIDATION_FAILED')
  t.match((await call(who, 'GET', config)).body, nothing)
})

await t.test('activation is idempotent and changes nothing else', async (t) => {
  const who = as('switch')
  const { body: before } = await call(who, 'POST', config, { access_token: full.access_token })
  for (const [action, active] of [
    ['activate', true], ['deactivate', false], ['deactivate', false], ['activate', true], ['activate', true]
  ] as const) {
    const { is, body } = await call(who, 'POST', `${config}/${action}`)
    t.strictSame([is, body], ['200', { ...before, is_active: active, updated_at: body.updated_at }])
  }
})

await t.test('a POST without a body accepts any content type', async (t) => {
  const who = as('switch')
  for (const type of [
    'application/json', 'text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data',
    'application/octet-stream', 'application/xml; charset=latin1'
  ]) {
    t.equal((await call(who, 'POST', `${config}/activate`, '', { 'content-type': type })).is, '200', type)
    t.equal(
      (await call(who, 'POST', `${config}/activate`, '', { 'content-type': type, 'transfer-encoding': 'chunked' })).is,
      '200',
      type
    )
  }
  t.equal((await call(who, 'POST', `${config}/activate`, {})).is, '200')
  for (const body of [[], { is_active: false }, '0', 'false', '""', '[]']) {
    t.equal(
      (await call(who, 'POST', `${config}/deactivate`, body, { 'content-type': 'application/json' })).is,
      '400 VALIDATION_FAILED'
    )
  }
  t.equal(
    (await call(who, 'POST', `${config}/deactivate`, '{', { 'content-type': 'application/json' })).is,
    '400 MALFORMED_JSON'
  )
  t.equal(
    (await call(who, 'POST', `${config}/deactivate`, '{}', { 'content-type': 'text/plain' })).is,
    '415 UNSUPPORTED_MEDIA_TYPE'
  )
  t.equal((await call(who, 'GET', config)).body.is_active, true)
})

await t.test('user_id stays that of the user who created the row', async (t) => {
  await call(as('owned', 'first'), 'POST', config, { waba_id: '1' })
  const later = as('owned', 'second')
  t.equal((await call(later, 'PUT', config, { waba_id: '2' })).body.user_id, 'first')
  t.equal((await call(later, 'POST', `${config}/deactivate`)).body.user_id, 'first')
  t.equal((await call(as('unowned'), 'POST', config, { waba_id: '1' })).body.user_id, null)
  t.equal((await call(later, 'PUT', config, { waba_id: '2', user_id: 'second' })).is, '400 VALIDATION_FAILED')
})

await t.test('a deleted configuration is gone, and its phone number is free', async (t) => {
  const who = as('gone')
  const values = { ...full, phone_number_id: 'given-back' }
  await call(who, 'POST', config, values)
  t.strictSame(
    await call(who, 'DELETE', config).then(({ is, body, headers }) => [is, body, headers['content-type']]),
    ['204', {}, undefined]
  )
  t.equal((await call(who, 'DELETE', config)).is, '404 CONFIG_NOT_FOUND')
  t.equal((await call(who, 'POST', config, values)).is, '201', 'the phone number is free again')
  t.equal((await call(who, 'DELETE', config, {})).is, '204')
})

await t.test('HEAD answers as GET does, without the body', async (t) => {
  const who = as('acme')
  const { headers } = await call(who, 'GET', config)
  const head = await call(who, 'HEAD', config)
  t.strictSame([head.is, head.body, head.headers['content-length']], ['200', {}, headers['content-length']])
  t.equal((await call(who, 'HEAD', `${config}/full`)).is, '200')
  t.equal((await call(as('nobody'), 'HEAD', config)).is, '404')
  t.equal((await call({}, 'HEAD', config)).is, '401')
})
