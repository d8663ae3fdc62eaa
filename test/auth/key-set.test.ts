import { generateKeyPairSync } from 'node:crypto'
import t from '../run/tap.js'
import { fetchKeySet, importKeys } from '../../src/auth/key-set.js'
import { breakOff, identityProvider, keySet, signingKey, status, type Answer } from './provider.js'

t.setTimeout(60_000)

const rsa = await signingKey('RS256')
const ec = await signingKey('ES256')
const ed = await signingKey('EdDSA')

const without = (jwk: object, ...names: string[]) =>
  Object.fromEntries(Object.entries(jwk).filter(([name]) => !names.includes(name)))
const namesOf = async (...keys: object[]) => [...(await importKeys({ keys }, 0)).keys()].sort()

await t.test('a key verifies the algorithms of its type, as far as use, key_ops and alg allow', async (t) => {
  const { jwk } = rsa
  const untyped = without(jwk, 'alg')
  for (const [name, keys, expected] of [
    ['RSA with alg', [jwk], ['RS256', 'RS256 kid-RS256']],
    ['RSA without alg', [untyped], ['PS256', 'PS256 kid-RS256', 'RS256', 'RS256 kid-RS256']],
    ['RSA without alg and use, with key_ops', [{ ...without(untyped, 'use'), key_ops: ['verify'] }],
      ['PS256', 'PS256 kid-RS256', 'RS256', 'RS256 kid-RS256']],
    ['RSA for PS256', [{ ...jwk, alg: 'PS256' }], ['PS256', 'PS256 kid-RS256']],
    ['P-256', [without(ec.jwk, 'alg')], ['ES256', 'ES256 kid-ES256']],
    ['Ed25519', [without(ed.jwk, 'alg')], ['EdDSA', 'EdDSA kid-EdDSA']],
    ['without kid', [without(jwk, 'kid')], ['RS256']],
    ['a kid that is no text', [{ ...jwk, kid: 7 }], ['RS256']],
    ['two of one type', [jwk, { ...jwk, kid: 'other' }], ['RS256 kid-RS256', 'RS256 other']],
    ['two with one kid', [jwk, jwk], []],
    ['two types with one kid', [{ ...jwk, kid: 'k' }, { ...ec.jwk, kid: 'k' }],
      ['ES256', 'ES256 k', 'RS256', 'RS256 k']],
    ['a usable one beside unusable ones',
      [{ ...jwk, kid: 'enc', use: 'enc' }, { kty: 'oct', k: 'c2VjcmV0' }, ec.jwk, {}],
      ['ES256', 'ES256 kid-ES256']]
  ] as Array<[string, object[], string[]]>) t.same(await namesOf(...keys), expected, name)
})

await t.test('an unusable key verifies nothing', async (t) => {
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' })
  const other = (curve: string) =>
    generateKeyPairSync('ec', { namedCurve: curve }).publicKey.export({ format: 'jwk' })
  const ed448 = generateKeyPairSync('ed448').publicKey.export({ format: 'jwk' })
  const pair = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' })
  for (const [name, key] of Object.entries({
    empty: {},
    'symmetric, HS256': { kty: 'oct', k: Buffer.alloc(32, 1).toString('base64url'), alg: 'HS256', kid: 'k' },
    'symmetric, RS256': { kty: 'oct', k: Buffer.alloc(32, 1).toString('base64url'), alg: 'RS256', kid: 'k' },
    'RSA of 1024 bits': { ...weak, alg: 'RS256', kid: 'k' },
    'RSA of 1024 bits without alg': { ...weak, kid: 'k' },
    'RSA without modulus': without(rsa.jwk, 'n'),
    'private RSA': { ...pair, alg: 'RS256', kid: 'k' },
    'for encryption': { ...rsa.jwk, use: 'enc' },
    'for encryption, by key_ops': { ...without(rsa.jwk, 'use'), key_ops: ['encrypt'] },
    'key_ops is no list': { ...rsa.jwk, key_ops: 'verify' },
    'RSA-OAEP': { ...rsa.jwk, alg: 'RSA-OAEP' },
    RS384: { ...rsa.jwk, alg: 'RS384' },
    'RSA that says HS256': { ...rsa.jwk, alg: 'HS256' },
    'RSA that says ES256': { ...rsa.jwk, alg: 'ES256' },
    'RSA that says none': { ...rsa.jwk, alg: 'none' },
    'EC that says RS256': { ...ec.jwk, alg: 'RS256' },
    'P-384': { ...other('P-384'), kid: 'k' },
    'P-521': { ...other('P-521'), kid: 'k' },
    secp256k1: { ...other('secp256k1'), kid: 'k' },
    'P-384 that says ES256': { ...other('P-384'), alg: 'ES256', kid: 'k' },
    'a point off the curve': { ...ec.jwk, y: ec.jwk.x },
    'a point of zeros': { ...ec.jwk, x: 'A'.repeat(43), y: 'A'.repeat(43) },
    'EC without y': without(ec.jwk, 'y'),
    Ed448: { ...ed448, kid: 'k' },
    X25519: { ...ed.jwk, crv: 'X25519' },
    'unknown type': { ...rsa.jwk, kty: 'rsa' }
  })) t.same(await namesOf(key), [], name)
})

await t.test('a malformed set, or one of more than 100 keys, is refused', async (t) => {
  for (const set of ['null', '[]', '{}', '{"keys":null}', '{"keys":{}}', '{"keys":[null]}', '{"keys":["k"]}', '7']) {
    await t.rejects(importKeys(JSON.parse(set), 0), set)
  }
  t.equal((await importKeys({ keys: Array(100).fill(rsa.jwk) }, 0)).size, 0, 'none of 100 with the same kid')
  await t.rejects(importKeys({ keys: Array(101).fill(rsa.jwk) }, 0), /more than 100 keys/)
})

await t.test('an answer that is no set of JSON within its bounds is refused', async (t) => {
  const { signal } = new AbortController()
  const text = (body: string): Answer => (_request, reply) => { reply.end(body) }
  const redirected = await identityProvider(t, keySet(rsa))
  const provider = await identityProvider(t, keySet(rsa))
  t.same(await fetchKeySet(provider.url, fetch, signal), { keys: [rsa.jwk] })
  for (const [name, answer, message] of [
    ['not JSON', text('<html>'), /JSON/],
    ['empty', text(''), /JSON/],
    ['500', status(500), /status 500/],
    ['404 with keys', (request, reply) => { reply.statusCode = 404; keySet(rsa)(request, reply) }, /status 404/],
    ['204 without a body', status(204), /status 204/],
    ['a redirect', (_request, reply) => { reply.writeHead(302, { location: redirected.url }).end() }, /fetch failed/],
    ['1 MiB and a byte', text(' '.repeat(1024 * 1024 + 1)), /larger than 1048576 bytes/],
    ['endless', (_request, reply) => {
      const write = () => { while (reply.write(' '.repeat(65536))); }
      reply.on('drain', write)
      write()
    }, /larger than 1048576 bytes/],
    ['broken off', breakOff, /fetch failed/]
  ] as Array<[string, Answer, RegExp]>) {
    provider.answerWith(answer)
    await t.rejects(fetchKeySet(provider.url, fetch, signal), message, name)
  }
  t.equal(redirected.fetches(), 0, 'a redirect is not followed')
  provider.answerWith(text(`{"keys":[]${' '.repeat(1024 * 1024 - 11)}}`))
  t.same(await fetchKeySet(provider.url, fetch, signal), { keys: [] }, 'exactly 1 MiB')
})

await t.test('an answer that does not come whole within 5 s is refused', async (t) => {
  const { signal } = new AbortController()
  const slow: Record<string, Answer> = {
    'no answer': () => {},
    'a body that trickles': (_request, reply) => {
      const timer = setInterval(() => { reply.write(' ') }, 100)
      reply.on('close', () => { clearInterval(timer) })
    }
  }
  await Promise.all(Object.entries(slow).map(async ([name, answer]) => {
    const { url } = await identityProvider(t, answer)
    const began = performance.now()
    await t.rejects(fetchKeySet(url, fetch, signal), { name: 'TimeoutError' }, name)
    const ms = performance.now() - began
    t.ok(ms > 4900 && ms < 20_000, name)
  }))
})
