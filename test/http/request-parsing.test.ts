import t from '../run/tap.js'
import { newKey } from '../helper.js'
import { client, config, configs, full, onboard } from '../routes/client.js'

const { as, admin, call, rows } = await client(t)
const tenant = as('acme')
await call(tenant, 'POST', config, full)
const before = await rows()
const json = { 'content-type': 'application/json' }

/** Every route with a body, and a tenant that may use it. */
const targets = [[tenant, 'PUT', config], [as('fresh'), 'POST', config], [as('fresh'), 'POST', onboard]] as const

await t.test('a body that is not JSON in UTF-8 is refused', async (t) => {
  const around = (bytes: number[]) => Buffer.concat([
    Buffer.from('{"waba_id":"'), Buffer.from(bytes), Buffer.from('"}')
  ])
  for (const body of [
    '{', '{"waba_id":}', "{'waba_id':'1'}", '{"waba_id":"1",}', '{"waba_id":"1"}{}', 'waba_id=1', 'undefined', ' ',
    'NaN', '{"waba_id":"a\nb"}', '{"waba_id":"\\x41"}',
    '{"__proto__":{"waba_id":"1"}}', '{"waba_id":"1","__proto__":null}', '{"\\u005f_proto__":1}',
    '{"constructor":{"prototype":{"waba_id":"1"}}}',
    around([0xff]), around([0xc3]), around([0xc0, 0x80]), around([0xed, 0xa0, 0x80]), around(
      [0xf4, 0x90, 0x80, 0x80]
    ), around([0xe2, 0x82]),
    Buffer.from('{"waba_id":"1"}', 'utf16le'), Buffer.from([0x1f, 0x8b, 0x08, 0])
  ]) {
    for (const [who, method, url] of targets) {
      t.equal(
        (await call(who, method, url, body, json)).is,
        '400 MALFORMED_JSON',
        JSON.stringify(body)
      )
    }
  }
  t.same(await rows(), before)
})

await t.test('a JSON body that is not an object is refused', async (t) => {
  for (const body of [
    'null', 'true', '0', '"waba_id"', '[]', '[{"waba_id":"1"}]', '', '[null]', '['.repeat(30_000) + ']'.repeat(30_000)
  ]) {
    for (const [who, method, url] of targets) {
      t.equal(
        (await call(who, method, url, body, json)).is,
        '400 VALIDATION_FAILED',
        body.slice(0, 20)
      )
    }
  }
  // The names of Object.prototype are unknown fields like any other.
  for (const body of ['{"constructor":1,"waba_id":"1"}', '{"toString":"x","waba_id":"1"}']) {
    for (const [who, method, url] of targets) {
      t.equal(
        (await call(who, method, url, body, json)).is,
        '400 VALIDATION_FAILED',
        body
      )
    }
  }
  t.same(await rows(), before)
})

await t.test('only application/json is accepted, with any parameters', async (t) => {
  const body = JSON.stringify({ waba_id: '1' })
  for (const type of [
    'text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'application/xml',
    'application/octet-stream', 'application/jsonx', 'application/problem+json',
    'text/json', 'json', '*/*', 'application/', 'application/json application/json'
  ]) {
    for (const [who, method, url] of targets) {
      t.equal(
        (await call(who, method, url, body, { 'content-type': type })).is,
        '415 UNSUPPORTED_MEDIA_TYPE',
        type
      )
    }
  }
  for (const [who, method, url] of targets) {
    t.equal(
      (await call(who, method, url, Buffer.from(body))).is,
      '415 UNSUPPORTED_MEDIA_TYPE',
      'no content type'
    )
  }
  t.same(await rows(), before)
  for (const type of ['application/json; charset=utf-8', 'Application/JSON', 'application/json;x=y']) {
    t.equal((await call(tenant, 'PUT', config, body, { 'content-type': type })).is, '200', type)
  }
  t.equal((await call(tenant, 'PUT', config, `\ufeff${body}`, json)).is, '200', 'a byte order mark is accepted')
  t.equal(
    (await call(tenant, 'PUT', config, '{"waba_id":"first","waba_id":"waba-1"}', json)).body.waba_id,
    'waba-1',
    'the last of two equal names counts'
  )
})

await t.test('a body over 64 KiB is refused', async (t) => {
  const sized = (bytes: number) => JSON.stringify({ waba_id: '1' }).padEnd(bytes)
  for (const [who, method, url] of targets) {
    t.equal((await call(who, method, url, sized(65537), json)).is, '413 PAYLOAD_TOO_LARGE')
    t.equal(
      (await call(who, method, url, sized(65537), { ...json, 'transfer-encoding': 'chunked' })).is,
      '413 PAYLOAD_TOO_LARGE'
    )
  }
  t.equal((await call(tenant, 'POST', `${config}/activate`, sized(65537), json)).is, '413 PAYLOAD_TOO_LARGE')
  t.equal((await call(tenant, 'PUT', config, sized(65536), json)).is, '200')
})

await t.test('a wrong content-length is refused', async (t) => {
  for (const length of ['1', '400']) {
    t.equal(
      (await call(tenant, 'PUT', config, '{"waba_id":"1"}', { ...json, 'content-length': length })).is,
      '400 MALFORMED_JSON',
      length
    )
  }
})

await t.test('an unknown or malformed query parameter is refused', async (t) => {
  for (const url of [config, `${config}/full`, `${config}/activate`, `${config}/deactivate`, onboard]) {
    const method = url === onboard || url.endsWith('activate') ? 'POST' : 'GET'
    for (const query of ['x', 'x=1', 'tenant_id=other', '__proto__=1', 'constructor=1', '=', 'EAAGcanary=1']) {
      const { is, body } = await call(
        tenant,
        method,
        `${url}?${query}`,
        url === onboard ? { code: 'x', waba_id: '1', phone_number_id: '2' } : undefined
      )
      t.equal(is, '400 VALIDATION_FAILED', `${url}?${query}`)
      t.notMatch(JSON.stringify(body), 'EAAGcanary')
    }
  }
  for (const method of ['PUT', 'POST', 'DELETE']) {
    t.equal(
      (await call(tenant, method, `${config}?dry_run=true`, method === 'DELETE' ? undefined : full)).is,
      '400 VALIDATION_FAILED'
    )
  }
  for (const query of ['%', '%zz', '%ff', 'tenant_id=%ff', 'tenant_id=%c3', 'tenant_id=%ed%a0%80', 'tenant_id=50%']) {
    t.equal((await call(admin, 'GET', `${configs}/all?${query}`)).is, '400 VALIDATION_FAILED', query)
  }
  t.equal((await call(tenant, 'GET', `${config}?`)).is, '200')
  t.equal((await call({}, 'GET', '/health/live?x=1')).is, '400 VALIDATION_FAILED')
})

await t.test('in production only an https URL is accepted', async (t) => {
  const { as, call } = await client(t, { NODE_ENV: 'production', ENCRYPTION_KEYS: `p1:${newKey()}` })
  for (const url of ['http://localhost', 'http://127.0.0.1', 'http://[::1]', 'http://a.example']) {
    t.equal((await call(as('acme'), 'POST', config, { callback_url: url })).is, '400 VALIDATION_FAILED', url)
  }
  t.equal((await call(as('acme'), 'POST', config, { callback_url: 'https://localhost' })).is, '201')
})
