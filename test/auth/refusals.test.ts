import { createHmac, randomBytes } from 'node:crypto'
import t from '../run/tap.js'
import { buildApp } from '../../src/app.js'
import { baseEnv, createDatabase, JWT_SECRET } from '../helper.js'
import { client, config, configs } from '../routes/client.js'
import { breakOff, identityProvider, keySet, signingKey, status } from './provider.js'

const now = Math.floor(Date.now() / 1000)
const rsa = await signingKey('RS256', { kid: 'rsa' })
const stranger = await signingKey('RS256', { kid: 'rsa' })
const canary = () => `canary${randomBytes(9).toString('hex')}`
const challenge = (description: string) => `Bearer error="invalid_token", error_description="${description}"`

await t.test('a 401 says which check failed, and nothing that the token held', async (t) => {
  const provider = await identityProvider(t, keySet(rsa))
  const { call, log } = await client(t, {
    JWT_JWKS_URL: provider.url, JWT_ISSUER: 'https://id.example', JWT_AUDIENCE: 'whatsapp', JWT_CLOCK_TOLERANCE_S: 5
  })
  const good = { iss: 'https://id.example', aud: 'whatsapp', tenant_id: 'acme', sub: canary(), [canary()]: canary() }
  const signed = async (claims: object, header = {}) => `Bearer ${await rsa.sign({ ...good, ...claims }, header)}`
  const [head, body, signature] = (await rsa.sign(good)).split('.')
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  t.equal((await call({ authorization: await signed({}) }, 'GET', config)).is, '404 CONFIG_NOT_FOUND')
  const before = log().length

  const cases: Array<[check: string, authorization: string | undefined, expected: string]> = [
    ['no header', undefined, 'Bearer'],
    ['another scheme', `Basic ${canary()}`, 'Bearer'],
    ['a scheme that begins alike', `Bearers ${canary()}`, 'Bearer'],
    ['no token', 'Bearer', challenge('The token is malformed')],
    ['two tokens', `Bearer ${canary()} ${canary()}`, challenge('The token is malformed')],
    ['garbage', `Bearer ${canary()}`, challenge('The token is malformed')],
    ['no JSON in the payload', `Bearer ${head}.${canary()}.${signature}`, challenge('The token is malformed')],
    ['another payload', `Bearer ${head}.${part({ ...good, sub: canary() })}.${signature}`,
      challenge('The signature of the token is invalid')],
    ['kid a number', `Bearer ${part({ alg: 'RS256', kid: 7 })}.${body}.${signature}`,
      challenge('The token is malformed')],
    ['crit', await signed({}, { crit: ['b64'], b64: true }),
      challenge('The token needs an extension that is not supported')],
    ['alg', `Bearer ${part({ alg: canary() })}.${body}.${signature}`,
      challenge('The algorithm of the token is not accepted')],
    ['kid', await signed({}, { kid: canary() }), challenge('No key that is accepted signed the token')],
    ['signature', `Bearer ${await stranger.sign(good)}`, challenge('The signature of the token is invalid')],
    ['no signature', `Bearer ${head}.${body}.`, challenge('The signature of the token is invalid')],
    ['exp', await signed({ exp: now - 6 }), challenge('The token has expired')],
    ['exp missing', await signed({ exp: undefined }), challenge('A time of the token is missing or is not a number')],
    ['exp a text', await signed(JSON.parse(`{"exp":"${canary()}"}`)),
      challenge('A time of the token is missing or is not a number')],
    ['exp a list', await signed(JSON.parse(`{"exp":[${now + 60}]}`)),
      challenge('A time of the token is missing or is not a number')],
    ['iat', await signed(JSON.parse(`{"iat":"${canary()}"}`)),
      challenge('A time of the token is missing or is not a number')],
    ['nbf', await signed({ nbf: now + 60 }), challenge('The token is not valid yet')],
    ['iss', await signed({ iss: canary() }), challenge('The issuer of the token is not accepted')],
    ['aud', await signed({ aud: [canary()] }), challenge('The audience of the token is not accepted')],
    ['sub', await signed({ sub: `${canary()}\n` }), challenge('The subject of the token is unusable')]
  ]
  for (const [check, authorization, expected] of cases) {
    const who: Record<string, string> = authorization === undefined ? {} : { authorization }
    for (const url of [config, `${configs}/stats`, `${config}/nowhere`]) {
      const { is, headers, body: problem } = await call(who, 'GET', url)
      t.equal(is, '401 UNAUTHENTICATED', check)
      t.equal(headers['www-authenticate'], expected, check)
      t.notMatch(JSON.stringify([headers, problem]), /canary|acme/, check)
    }
  }
  t.notMatch(log().slice(before), /canary|acme/)
})

await t.test('a payload that is no JSON object is malformed, also with a valid signature', async (t) => {
  const { call } = await client(t)
  for (const payload of ['', 'null', '[]', '"acme"', '{']) {
    const input = [JSON.stringify({ alg: 'HS256' }), payload].map((text) => Buffer.from(text).toString('base64url'))
    const text = input.join('.')
    const authorization = `Bearer ${text}.${createHmac('sha256', JWT_SECRET).update(text).digest('base64url')}`
    const { headers } = await call({ authorization }, 'GET', config)
    t.equal(headers['www-authenticate'], challenge('The token is malformed'), payload)
  }
})

await t.test('without keys a token gets 503, never 401; HS256 needs none', async (t) => {
  for (const [name, answer] of Object.entries({
    'an error': status(500), 'no connection': breakOff, 'no keys': keySet(), 'no usable key': keySet({ kty: 'oct' })
  })) {
    const provider = await identityProvider(t, answer)
    const { call, as, admin } = await client(t, { JWT_JWKS_URL: provider.url })
    const authorization = `Bearer ${await rsa.sign({ tenant_id: 'acme', role: 'admin' })}`
    const ask = async () => (await call({ authorization }, 'GET', config)).is
    t.same(await Promise.all(Array.from({ length: 20 }, ask)), Array(20).fill('503 IDENTITY_UNAVAILABLE'), name)
    t.equal((await call({ authorization }, 'GET', `${configs}/stats`)).is, '503 IDENTITY_UNAVAILABLE')
    t.equal(provider.fetches(), 1, 'one fetch for all')
    t.equal((await call(as('acme'), 'GET', config)).is, '404 CONFIG_NOT_FOUND')
    t.equal((await call(admin, 'GET', `${configs}/stats`)).is, '200')
  }
})

await t.test('100 requests at once cause one fetch, and a rotated key works at once', async (t) => {
  const next = await signingKey('ES256', { kid: 'next' })
  const provider = await identityProvider(t, keySet(rsa))
  const { call } = await client(t, { JWT_JWKS_URL: provider.url })
  const ask = async (key: typeof rsa, header = {}) => {
    const authorization = `Bearer ${await key.sign({ tenant_id: 'acme' }, header)}`
    return (await call({ authorization }, 'GET', config)).is
  }
  const found = '404 CONFIG_NOT_FOUND'
  t.same(await Promise.all(Array.from({ length: 100 }, async () => await ask(rsa))), Array(100).fill(found))
  t.equal(provider.fetches(), 1)
  t.equal(await ask(rsa, { kid: undefined }), found, 'without kid the only key counts')
  provider.answerWith(keySet(rsa, next))
  t.equal(await ask(next), found)
  t.equal(await ask(rsa), found)
  t.equal(provider.fetches(), 2)
})

await t.test('without JWT_SECRET HS256 is refused, and no token is signed', async (t) => {
  const provider = await identityProvider(t, keySet(rsa, { kty: 'oct', k: 'c2VjcmV0', kid: 'oct', alg: 'HS256' }))
  const { app, call } = await client(t, { JWT_JWKS_URL: provider.url })
  const token = app.auth.mint({ tenantId: 'acme' }, 60)
  t.equal((await call({ authorization: `Bearer ${token}` }, 'GET', config)).is, '404 CONFIG_NOT_FOUND')
  const other = await buildApp({
    ...baseEnv,
    LOG_LEVEL: 'silent',
    JWT_SECRET: undefined,
    JWT_JWKS_URL: provider.url,
    DATABASE_URL: await createDatabase(t)
  })
  t.teardown(async () => await other.close())
  t.throws(() => other.auth.mint({ tenantId: 'acme' }, 60), /Without JWT_SECRET this service signs no token/)
  for (const [authorization, expected] of [
    [`Bearer ${token}`, challenge('The algorithm of the token is not accepted')],
    [`Bearer ${await rsa.sign({ tenant_id: 'acme' })}`, undefined]
  ] as const) {
    const { headers } = await other.inject({ url: config, headers: { authorization } })
    t.equal(headers['www-authenticate'], expected)
  }
})
