import {
  constants, createHash, createHmac, createPublicKey, generateKeyPairSync, KeyObject, privateEncrypt, randomBytes, sign
} from 'node:crypto'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { JWT_SECRET } from '../helper.js'
import { client, config } from '../routes/client.js'
import { identityProvider, keySet, signingKey } from './provider.js'

/*
 * The attacks of C2SP/wycheproof, testvectors_v1/json_web_signature_test.json, on tokens that the service would accept
 * otherwise: groups hs256, es256, rs256, ps256, base64, SpecialCaseEs256, rsa_encryption, ec_key_for_encryption.
 */

const rsa = await signingKey('RS256', { kid: 'rsa' })
const pss = await signingKey('PS256', { kid: 'pss' })
const ec = await signingKey('ES256', { kid: 'ec' })
const ed = await signingKey('EdDSA', { kid: 'ed' })
const p384 = await signingKey('ES384', { kid: 'p384' })
const forEncryption = await signingKey('RS256', { kid: 'enc', use: 'enc' })
const forDeriving = await signingKey('ES256', { kid: 'derive', use: undefined, key_ops: ['deriveKey'] })
const mallory = await signingKey('ES256', { kid: 'ec' })
const weak = generateKeyPairSync('rsa', { modulusLength: 1024 })
const weakJwk = { ...weak.publicKey.export({ format: 'jwk' }), kid: 'weak', alg: 'RS256' }
const oct = { kty: 'oct', kid: 'oct', alg: 'HS256', use: 'sig', k: randomBytes(32).toString('base64url') }

const provider = await identityProvider(t, keySet(rsa, pss, ec, ed, p384, forEncryption, forDeriving, weakJwk, oct))
const { call, rows } = await client(t, { JWT_JWKS_URL: provider.url })

const claims = { tenant_id: 'acme', exp: Math.floor(Date.now() / 1000) + 600 }
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
const inputOf = (header: object) => `${part(header)}.${part(claims)}`
const join = (input: string, signature: Buffer) => `${input}.${signature.toString('base64url')}`
const hs256 = (input: string, secret: string | Buffer) =>
  join(input, createHmac('sha256', secret).update(input).digest())
const pemOf = (jwk: object) =>
  createPublicKey({ key: { ...jwk }, format: 'jwk' }).export({ type: 'spki', format: 'pem' }).toString()
const ask = async (token: string) => (await call({ authorization: `Bearer ${token}` }, 'GET', config)).is

async function refused (t: Test, attempts: Record<string, string>): Promise<void> {
  for (const [name, token] of Object.entries(attempts)) t.equal(await ask(token), '401 UNAUTHENTICATED', name)
  t.same(await rows(), [])
}

const accepted = '404 CONFIG_NOT_FOUND'

await t.test('the tokens without an attack are accepted', async (t) => {
  for (const key of [rsa, pss, ec, ed]) t.equal(await ask(await key.sign(claims)), accepted, key.alg)
  t.equal(await ask(hs256(inputOf({ alg: 'HS256' }), JWT_SECRET)), accepted)
  t.equal(await ask(hs256(inputOf({ alg: 'HS256', kid: 'rsa' }), JWT_SECRET)), accepted, 'HS256 needs no kid')
})

await t.test('a changed, missing or additional part is refused', async (t) => {
  for (const key of [rsa, pss, ec, ed]) {
    const token = await key.sign(claims)
    const [head = '', body = '', signature = ''] = token.split('.')
    const other = part({ ...claims, tenant_id: 'other' })
    const flipped = Buffer.from(signature, 'base64url').map((byte, i) => i === 0 ? byte ^ 1 : byte)
    const changed = {
      signature: `${head}.${body}.${Buffer.from(flipped).toString('base64url')}`,
      'signature cut': `${head}.${body}.${signature.slice(0, -4)}`,
      'signature extended': `${head}.${body}.${signature}AAAA`,
      'signature of zeros': join(`${head}.${body}`, Buffer.alloc(Buffer.from(signature, 'base64url').length)),
      'no signature': `${head}.${body}.`,
      'no signature and separator': `${head}.${body}`,
      payload: `${head}.${other}.${signature}`,
      'no payload': `${head}..${signature}`,
      'no payload and separator': `${head}.${signature}`,
      header: `${part({ alg: key.alg, kid: key.jwk.kid, x: 1 })}.${body}.${signature}`,
      'no header': `.${body}.${signature}`,
      'no header and separator': `${body}.${signature}`,
      'no header, no signature': `.${body}.`,
      'one part': body,
      'an empty part more': `${token}.`,
      'a part more': `${token}.foo`,
      'two parts more': `${token}.foo.bar`,
      'payload twice': `${head}.${body}.${body}.${signature}`,
      padded: `${head}.${body}.${signature}==`,
      'a line break': `${head}.${body}%0A.${signature}`,
      'standard base64': `${head}.${body}.${signature.replace(/[A-Za-z]/, '+')}`,
      'JSON serialization': JSON.stringify({ payload: body, signatures: [{ protected: head, signature }] }),
      'flattened JSON': JSON.stringify({ payload: body, protected: head, signature })
    }
    await refused(t, Object.fromEntries(Object.entries(changed).map(([name, text]) => [`${key.alg}: ${name}`, text])))
  }
})

await t.test('an algorithm that is not of the key is refused', async (t) => {
  const [head = '', body = '', signature = ''] = (await rsa.sign(claims)).split('.')
  const [pem, ecPem] = [pemOf(rsa.jwk), pemOf(ec.jwk)]
  const weakInput = inputOf({ alg: 'RS256', kid: 'weak' })
  const asHs256 = (secret: string | Buffer, kid = 'rsa') => hs256(inputOf({ alg: 'HS256', kid }), secret)
  const as = (alg: unknown, kid = 'rsa') => `${part({ alg, kid })}.${body}.${signature}`
  await refused(t, {
    none: `${part({ alg: 'none' })}.${body}.`,
    'none, signed': `${part({ alg: 'none', kid: 'rsa' })}.${body}.${signature}`,
    nOnE: `${part({ alg: 'nOnE', kid: 'rsa' })}.${body}.`,
    'no alg': as(undefined),
    'empty alg': as(''),
    'alg a list': as(['RS256']),
    'alg in lower case': as('rs256'),
    'alg of a prototype': as('constructor'),
    'RS256 as PS256': as('PS256'),
    'RS256 as RS384': as('RS384'),
    'RS256 as ES256': as('ES256'),
    'RS256 as EdDSA': as('EdDSA'),
    'RS256 as HS256': as('HS256'),
    'RS256 with the kid of the PS256 key': as('RS256', 'pss'),
    'RS256 with the kid of the EC key': as('RS256', 'ec'),
    'the public key as PEM': asHs256(pem),
    'the public key as PEM, trimmed': asHs256(pem.trim()),
    'the public key as DER': asHs256(Buffer.from(pem.replaceAll(/-----.*?-----|\s/g, ''), 'base64')),
    'the public key as JWK': asHs256(JSON.stringify(rsa.jwk)),
    'the modulus': asHs256(Buffer.from(rsa.jwk.n ?? '', 'base64url')),
    'the EC key as PEM': asHs256(ecPem, 'ec'),
    'the EC coordinates': asHs256(Buffer.from(`${ec.jwk.x}${ec.jwk.y}`, 'base64url'), 'ec'),
    'the symmetric key of the set': asHs256(Buffer.from(oct.k, 'base64url'), 'oct'),
    'the symmetric key of the set as text': asHs256(oct.k, 'oct'),
    'the empty secret': asHs256(''),
    'a key for encryption': await forEncryption.sign(claims),
    'a key for deriving': await forDeriving.sign(claims),
    'ES384 with its own key': await p384.sign(claims),
    'RSA of 1024 bits': join(weakInput, sign('sha256', Buffer.from(weakInput), weak.privateKey)),
    'an unknown kid': await ec.sign(claims, { kid: 'other' }),
    'kid a number': `${part({ alg: 'RS256', kid: 7 })}.${body}.${signature}`,
    'kid null': `${part({ alg: 'RS256', kid: null })}.${body}.${signature}`,
    'kid a path': `${part({ alg: 'RS256', kid: '../../dev/null' })}.${body}.${signature}`,
    'two parts of the header': `${head}${head}.${body}.${signature}`
  })
})

await t.test('a key or an extension in the header is refused', async (t) => {
  const forged = async (header: object) => await mallory.sign(claims, { ...header })
  const input = (header: object) => inputOf({ alg: 'HS256', ...header })
  const certificate = Buffer.from('certificate').toString('base64')
  await refused(t, {
    jwk: await forged({ jwk: mallory.jwk }),
    'jwk without kid': await forged({ jwk: mallory.jwk, kid: undefined }),
    jku: await forged({ jku: 'http://127.0.0.1:9/jwks' }),
    x5u: await forged({ x5u: 'http://127.0.0.1:9/x' }),
    x5c: await forged({ x5c: [certificate] }),
    crit: hs256(input({ crit: ['exp2'], exp2: 1 }), JWT_SECRET),
    'crit of a known name': hs256(input({ crit: ['alg'] }), JWT_SECRET),
    'crit empty': hs256(input({ crit: [] }), JWT_SECRET),
    'crit null': hs256(input({ crit: null }), JWT_SECRET),
    'b64 false, critical': hs256(input({ b64: false, crit: ['b64'] }), JWT_SECRET),
    'b64 false': hs256(input({ b64: false }), JWT_SECRET)
  })
  t.equal(await ask(await ec.sign(claims, { jku: 'http://127.0.0.1:9/jwks', jwk: mallory.jwk })), accepted, 'ignored')
})

await t.test('an ECDSA signature outside of its range or format is refused', async (t) => {
  const n = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex')
  const number = (value: number) => Buffer.concat([Buffer.alloc(31), Buffer.of(value)])
  const below = Buffer.from(n.map((byte, i) => i === 31 ? byte - 1 : byte))
  const special = { zero: number(0), one: number(1), 'n - 1': below, n, 'n + 1': n.map((b, i) => i === 31 ? b + 1 : b) }
  const header = { alg: 'ES256', kid: 'ec' }
  const pairs = Object.entries(special).flatMap(([r, first]) =>
    Object.entries(special).map(([s, second]) => [
      `r ${r}, s ${s}`, join(inputOf(header), Buffer.concat([first, second]))
    ]))
  const [head, body, signature = ''] = (await ec.sign(claims)).split('.')
  const [r, s] = [0, 32].map((from) => Buffer.from(signature, 'base64url').subarray(from, from + 32))
  const der = (a: Buffer, b: Buffer) => Buffer.concat([Buffer.of(0x30, 68, 2, 32), a, Buffer.of(2, 32), b])
  const withSignature = (bytes: Uint8Array[]) => join(`${head}.${body}`, Buffer.concat(bytes))
  if (r === undefined || s === undefined) throw new Error('no signature')
  await refused(t, {
    ...Object.fromEntries(pairs),
    'trailing zeros': withSignature([r, s, Buffer.alloc(2)]),
    'leading zeros': withSignature([Buffer.alloc(2), r, s]),
    'longer halves': withSignature([Buffer.alloc(1), r, Buffer.alloc(1), s]),
    'halves exchanged': withSignature([s, r]),
    'one half': withSignature([r]),
    DER: withSignature([der(r, s)]),
    'of 4 KiB': withSignature([Buffer.alloc(4096, 1)])
  })
})

await t.test('an RSA signature with changed padding is refused', async (t) => {
  const digestInfo = Buffer.from('3031300d060960864801650304020105000420', 'hex')
  const digest = createHash('sha256').update(inputOf({ alg: 'RS256', kid: 'rsa' })).digest()
  const block = (info: Buffer, filler = 0xff, type = 1, after = Buffer.alloc(0)) => {
    const tail = Buffer.concat([Buffer.of(0), info, digest, after])
    return Buffer.concat([Buffer.of(0, type), Buffer.alloc(254 - tail.length, filler), tail])
  }
  const raw = (bytes: Buffer) => join(
    inputOf({ alg: 'RS256', kid: 'rsa' }),
    privateEncrypt({ key: KeyObject.from(rsa.privateKey), padding: constants.RSA_NO_PADDING }, bytes)
  )
  t.equal(await ask(raw(block(digestInfo))), accepted, 'the block is right otherwise')
  const edit = (at: number, value: number) => Buffer.from(digestInfo.map((byte, i) => i === at ? value : byte))
  await refused(t, {
    'other filler': raw(block(digestInfo, 0xfe)),
    'block type 0': raw(block(digestInfo, 0, 0)),
    'block type 2': raw(block(digestInfo, 0xff, 2)),
    'no digest info': raw(block(Buffer.alloc(0))),
    'SHA-384 by its id': raw(block(edit(14, 2))),
    'SHA-512 by its id': raw(block(edit(14, 3))),
    'wrong length of the sequence': raw(block(edit(1, 0x32))),
    'wrong length of the digest': raw(block(edit(18, 0x1f))),
    'NULL left out': raw(block(Buffer.from('302f300b06096086480165030402010420', 'hex'))),
    'NULL with content': raw(block(Buffer.from('3032300e06096086480165030402010501000420', 'hex'))),
    'garbage after the digest': raw(block(digestInfo, 0xff, 1, Buffer.alloc(100, 7))),
    'short filler, garbage at the end': raw(Buffer.concat([
      Buffer.from('0001ffffffffffffffff00', 'hex'), digestInfo, digest, Buffer.alloc(256 - 11 - 51, 1)
    ]))
  })
})

await t.test('a PSS signature with another salt, digest or size is refused', async (t) => {
  const header = { alg: 'PS256', kid: 'pss' }
  const key = KeyObject.from(pss.privateKey)
  const modulus = Buffer.from(pss.jwk.n ?? '', 'base64url')
  const salted = (saltLength: number, hash = 'sha256') => join(
    inputOf(header),
    sign(hash, Buffer.from(inputOf(header)), { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength })
  )
  t.equal(await ask(salted(32)), accepted, 'the salt is right otherwise')
  await refused(t, {
    'no salt': salted(0),
    'salt of 20 bytes': salted(20),
    'salt of 33 bytes': salted(33),
    'the longest salt': salted(constants.RSA_PSS_SALTLEN_MAX_SIGN),
    'SHA-384': salted(48, 'sha384'),
    'SHA-1': salted(20, 'sha1'),
    'signature 0': join(inputOf(header), Buffer.alloc(256)),
    'signature 1': join(inputOf(header), Buffer.concat([Buffer.alloc(255), Buffer.of(1)])),
    'signature n': join(inputOf(header), modulus),
    'signature n - 1': join(inputOf(header), Buffer.from(modulus.map((byte, i) => i === 255 ? byte - 1 : byte)))
  })
})
