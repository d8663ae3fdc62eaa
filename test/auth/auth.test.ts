import { createHmac, createSign, generateKeyPairSync } from 'node:crypto'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { JWT_SECRET } from '../helper.js'
import { client, config, configs } from '../routes/client.js'

const { app, as, call, rows } = await client(t)
const now = Math.floor(Date.now() / 1000)
const exp = now + 60
const good = { tenant_id: 'acme', exp }

const part = (value: unknown) =>
  (typeof value === 'string' ? Buffer.from(value) : Buffer.from(JSON.stringify(value))).toString('base64url')
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

/** The header of a token with any claims: an object, or the text of the payload. */
function token (
  claims: unknown,
  { secret = JWT_SECRET, header = {}, hash = 'sha256' }: { secret?: string, header?: object, hash?: string } = {}
) {
  const signed = `${part({ alg: 'HS256', typ: 'JWT', ...header })}.${part(claims)}`
  return bearer(`${signed}.${createHmac(hash, secret).update(signed).digest('base64url')}`)
}

await t.test('a valid token is accepted in every valid form', async (t) => {
  for (const [name, who] of Object.entries({
    minimal: token(good),
    'lower-case scheme': { authorization: (token(good).authorization).replace('Bearer', 'bearer') },
    'without typ': token(good, { header: { typ: undefined } }),
    'valid since now': token({ ...good, nbf: now - 5, iat: now - 5 }),
    'times with a fraction': token({ ...good, exp: exp + 0.5, nbf: now - 0.5, iat: now - 0.5 }),
    'expired for less than the clock tolerance': token({ ...good, exp: now - 10 }),
    'valid in less than the clock tolerance': token({ ...good, nbf: now + 29 }),
    'the largest exp': token({ ...good, exp: 2 ** 53 - 1 }),
    'issuer and audience that are not required': token({ ...good, iss: 'x', aud: ['y'] }),
    'longest sub': token({ ...good, sub: '😀'.repeat(255) }),
    'longest tenant id': token({ ...good, tenant_id: '😀'.repeat(100) }),
    'an admin with a tenant': token({ ...good, role: 'admin' })
  })) t.match((await call(who, 'GET', config)).is, /^(200|404)/, name)
})

/** Asserts that every route refuses each of these headers, and that no row is written. */
async function refused (t: Test, attempts: Record<string, Record<string, string>>): Promise<void> {
  for (const [name, who] of Object.entries(attempts)) {
    for (const [method, url] of [
      ['GET', config], ['POST', config], ['GET', `${configs}/stats`], ['DELETE', `${configs}/delete-all?x=1`]
    ] as const) {
      const { is, body } = await call({ ...who }, method, url)
      t.equal(is, '401 UNAUTHENTICATED', `${name}: ${method} ${url}`)
      t.notMatch(JSON.stringify(body), /acme|expired,|signature/)
    }
  }
  t.same(await rows(), [])
}

await t.test('an invalid token or authorization header is refused', async (t) => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const rs256 = (() => {
    const signed = `${part({ alg: 'RS256', typ: 'JWT' })}.${part(good)}`
    return bearer(`${signed}.${createSign('sha256').update(signed).sign(privateKey, 'base64url')}`)
  })()
  const [head = '', body = '', signature = ''] = token(good).authorization.slice(7).split('.')
  await refused(t, {
    missing: {},
    empty: { authorization: '' },
    'no token': { authorization: 'Bearer' },
    'blank token': { authorization: 'Bearer ' },
    basic: { authorization: `Basic ${Buffer.from('a:b').toString('base64')}` },
    'token without scheme': { authorization: token(good).authorization.slice(7) },
    'other scheme': { authorization: token(good).authorization.replace('Bearer', 'Token') },
    'two tokens': { authorization: `${token(good).authorization} x` },
    'in a cookie': { cookie: `token=${token(good).authorization.slice(7)}` },
    garbage: bearer('garbage'),
    dots: bearer('..'),
    'not base64': bearer(`${head}.%%%.${signature}`),
    'payload no object': token('"acme"'),
    'payload null': token('null'),
    'payload no JSON': token('{'),
    'without signature': bearer(`${head}.${body}.`),
    'signature cut off': bearer(`${head}.${body}`),
    'a signature of something else': bearer(`${head}.${part({ ...good, tenant_id: 'other' })}.${signature}`),
    'alg none': bearer(`${part({ alg: 'none' })}.${body}.`),
    'alg none, signed': token(good, { header: { alg: 'none' } }),
    'alg NoNe': bearer(`${part({ alg: 'NoNe' })}.${body}.`),
    'no alg': token(good, { header: { alg: undefined } }),
    hs384: token(good, { header: { alg: 'HS384' }, hash: 'sha384' }),
    hs512: token(good, { header: { alg: 'HS512' }, hash: 'sha512' }),
    'hs256 by name, hs512 by hash': token(good, { hash: 'sha512' }),
    rs256,
    'rs256, the public key as secret': token(
      good,
      { secret: publicKey.export({ type: 'spki', format: 'pem' }).toString() }
    ),
    'another key': token(good, { secret: `${JWT_SECRET}x` }),
    'the empty key': token(good, { secret: '' }),
    'critical extension': token(good, { header: { crit: ['exp2'], exp2: 1 } })
  })
})

await t.test('a token that is expired, not yet valid or has an unusable time is refused', async (t) => {
  await refused(t, {
    'just expired': token({ ...good, exp: now - 31 }),
    'long expired': token({ ...good, exp: 1 }),
    'no exp': token({ tenant_id: 'acme' }),
    'exp null': token({ ...good, exp: null }),
    'exp as text': token({ ...good, exp: String(exp) }),
    'exp a date': token({ ...good, exp: '2099-01-01T00:00:00Z' }),
    'exp true': token({ ...good, exp: true }),
    'exp a list': token({ ...good, exp: [exp] }),
    'exp negative': token({ ...good, exp: -exp }),
    'exp as an exponent': token('{"tenant_id":"acme","exp":1e308}'),
    'exp beyond any number': token('{"tenant_id":"acme","exp":1e999}'),
    'exp of 2^53': token({ ...good, exp: 2 ** 53 }),
    'exp far away, as text': token({ ...good, exp: '9999999999' }),
    'exp not a number': token({ ...good, exp: NaN }),
    'exp an object': token({ ...good, exp: { valueOf: exp } }),
    'nbf null': token({ ...good, nbf: null }),
    'nbf as an exponent': token(`{"tenant_id":"acme","exp":${exp},"nbf":1e308}`),
    'nbf negative': token({ ...good, nbf: -1 }),
    'nbf true': token({ ...good, nbf: true }),
    'iat as text': token({ ...good, iat: String(now) }),
    'iat null': token({ ...good, iat: null }),
    'iat as an exponent': token(`{"tenant_id":"acme","exp":${exp},"iat":-1e308}`),
    'iat a list': token({ ...good, iat: [now] }),
    'nbf in future': token({ ...good, nbf: now + 90 }),
    'nbf as text': token({ ...good, nbf: String(now - 30) })
  })
})

await t.test('a token with an unusable sub is refused', async (t) => {
  await refused(t, {
    ...Object.fromEntries(
      [
        1, '', 'x'.repeat(256), '😀'.repeat(256), null, ['x'], {}, true, 'a\0b', 'a\nb'
      ].map((sub, i) => [`sub ${i}`, token({ ...good, sub })])
    ),
    'sub a lone surrogate': token(`{"tenant_id":"acme","exp":${exp},"sub":"\\ud800"}`)
  })
})

await t.test('a token without a usable tenant claim is refused with 403', async (t) => {
  for (const tenant_id of [
    undefined, null, '', 'x'.repeat(101), '😀'.repeat(101), -1, 1.5, 2 ** 53, 1e300, true, ['acme'], { id: 'acme' },
    'a\0', 'a\n', '\x7f', 'a\x85b'
  ]) {
    const who = token({ ...good, tenant_id, tenantId: 'acme', tenant: 'acme' })
    t.equal((await call(who, 'POST', config, { waba_id: '1' })).is, '403 TENANT_CLAIM_INVALID')
    t.equal((await call(who, 'GET', `${config}/nowhere`)).is, '403 TENANT_CLAIM_INVALID')
  }
  t.equal(
    (await call(token(`{"tenant_id":"\\udc00","exp":${exp}}`), 'POST', config, { waba_id: '1' })).is,
    '403 TENANT_CLAIM_INVALID'
  )
  t.equal(
    (await call(token({ role: 'admin', exp }), 'GET', config)).is,
    '403 TENANT_CLAIM_INVALID',
    'an admin without a tenant'
  )
  t.same(await rows(), [])
})

await t.test('only the admin role gives access to the admin routes', async (t) => {
  const isOf = async (claims: object) => (await call(token({ exp, ...claims }), 'GET', `${configs}/stats`)).is
  for (const claims of [
    { role: 'admin' }, { role: ['x', 'admin'] }, { roles: ['admin'] }, { roles: 'admin' },
    { role: 'x', roles: ['y', 'admin'] }, { role: 'admin', tenant_id: '' }
  ]) {
    t.equal(await isOf(claims), '200', JSON.stringify(claims))
  }
  for (const claims of [
    {}, { tenant_id: 'admin' }, { sub: 'admin' }, { role: '' }, { role: 'Admin' }, { role: 'admin ' },
    { role: 'administrator' }, { role: 'x,admin' }, { role: 'x admin' }, { role: null }, { role: true },
    { role: { admin: true } }, { role: [['admin']] }, { roles: [] }, { roles: ['x'] }, { admin: true },
    { scope: 'admin' }, { role: 0, roles: { 0: 'admin', length: 1 } }
  ]) t.equal(await isOf({ tenant_id: 'acme', ...claims }), '403 FORBIDDEN', JSON.stringify(claims))
  t.equal(
    (await call(as('acme'), 'DELETE', `${configs}/delete-tenant/${'x'.repeat(300)}`)).is,
    '403 FORBIDDEN',
    'the role is checked before the path is validated'
  )
})

await t.test('the names of claims and role, the issuer and the audience are configurable', async (t) => {
  const settings = {
    JWT_TENANT_CLAIM: 'https://acme.example/org',
    JWT_ROLE_CLAIM: 'groups',
    JWT_ADMIN_ROLE: 'whatsapp admins',
    JWT_ISSUER: 'https://id.example',
    JWT_AUDIENCE: 'whatsapp'
  }
  const { app, as, admin, call } = await client(t, settings)
  const claims = { exp, iss: 'https://id.example', aud: 'whatsapp', 'https://acme.example/org': 'acme' }
  const get = async (more: object, url = config) => (await call(token({ ...claims, ...more }), 'GET', url)).is
  t.equal(await get({}), '404 CONFIG_NOT_FOUND')
  t.equal(await get({ aud: ['other', 'whatsapp'] }), '404 CONFIG_NOT_FOUND')
  t.equal(await get({ 'https://acme.example/org': undefined, tenant_id: 'acme' }), '403 TENANT_CLAIM_INVALID')
  for (const more of [
    { iss: undefined }, { iss: 'other' }, { iss: ['https://id.example', 'other'] }, { aud: undefined },
    { aud: 'other' }, { aud: [] }
  ]) {
    t.equal(await get(more), '401 UNAUTHENTICATED', JSON.stringify(more))
  }
  for (const more of [{ groups: 'whatsapp admins' }, { groups: ['x', 'whatsapp admins'] }]) {
    t.equal(await get(more, `${configs}/stats`), '200')
  }
  for (const more of [{ groups: 'admin' }, { role: 'whatsapp admins' }, { roles: ['whatsapp admins'] }]) {
    t.equal(await get(more, `${configs}/stats`), '403 FORBIDDEN')
  }
  t.equal((await call(as('acme', 'user'), 'POST', config, { waba_id: '1' })).body.user_id, 'user')
  t.equal((await call(admin, 'GET', `${configs}/stats`)).is, '200')
  const both = bearer(app.auth.mint({ tenantId: 'acme', admin: true }, 60))
  t.equal((await call(both, 'GET', config)).is, '200')
  t.equal((await call(both, 'GET', `${configs}/stats`)).is, '200')
})

await t.test('a minted token expires after the given seconds', async (t) => {
  const { authorization } = bearer(app.auth.mint({ tenantId: 'acme' }, 7))
  const claims: unknown = JSON.parse(Buffer.from(authorization.split('.')[1] ?? '', 'base64url').toString())
  t.match(claims, { tenant_id: 'acme', exp: Number, iat: Number, sub: undefined, role: undefined })
  const { exp, iat } = Object.fromEntries(Object.entries(Object(claims)))
  t.equal(Number(exp) - Number(iat), 7)
})
