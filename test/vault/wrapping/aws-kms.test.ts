import { KMS } from '@aws-sdk/client-kms'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { refusal, startAwsKms } from '../../fixtures/kms/aws-kms.js'
import { breakOff, json, raw, silence, type Answer } from '../../fixtures/kms/stand-in.js'
import { setProcessEnv } from '../../fixtures/kms/process-env.js'
import { entryScanner, messageOf, unwrapOnce, wrappedKey } from './rings.js'

const transit = { TRANSIT_MOUNT: 'transit' }

/** A stand-in that the SDK of this process calls. */
async function start (t: Test) {
  const kms = await startAwsKms(t)
  setProcessEnv(t, kms.env)
  const api = new KMS()
  t.teardown(() => { api.destroy() })
  return { ...kms, api, settings: { AWS_KMS_KEY_ID: kms.keyId, ...transit } }
}

await t.test('a key wrapped by AWS KMS is unwrapped with one call', async (t) => {
  const kms = await start(t)
  const { entry, plain } = await wrappedKey('k1', 'aws-kms', kms.settings)
  t.match(entry, /^k1:aws-kms:[A-Za-z0-9+/]{100,}={0,2}$/)
  t.equal(await unwrapOnce(entry, kms.settings), plain)
  t.equal(kms.calls(), 2)

  // Another version of the service must send the same.
  const EncryptionContext = { key_id: 'k1', purpose: 'key-ring', service: 'whatsapp-tenant-config' }
  const CiphertextBlob = Buffer.from(entry.slice('k1:aws-kms:'.length), 'base64')
  const { Plaintext = [] } = await kms.api.decrypt({ KeyId: kms.keyId, CiphertextBlob, EncryptionContext })
  t.equal(`k1:${Buffer.from(Plaintext).toString('base64')}`, plain)
})

await t.test('AWS_ENDPOINT_URL leads to AWS KMS too', async (t) => {
  const kms = await start(t)
  setProcessEnv(t, { AWS_ENDPOINT_URL: kms.url, AWS_ENDPOINT_URL_KMS: undefined })
  const { entry, plain } = await wrappedKey('k1', 'aws-kms', kms.settings)
  t.equal(await unwrapOnce(entry, kms.settings), plain)
})

await t.test('an entry opens under no other id, service or key of AWS KMS, and not when it is changed', async (t) => {
  const kms = await start(t)
  const { entry, key } = await wrappedKey('k1', 'aws-kms', kms.settings)
  const leaks = entryScanner(entry, key, kms.secrets)
  const refused = async (keyRing: string, settings = kms.settings) => {
    const message = await messageOf(t, unwrapOnce(keyRing, settings))
    t.same(leaks('the message', message), [])
    return message
  }
  const changed = /^Some keys of ENCRYPTION_KEYS cannot be unwrapped:\n {2}k\d \(aws-kms\): .*Restore it in ENCRYPTION/
  t.match(await refused(entry.replace('k1', 'k2')), changed)
  t.match(await refused(entry.slice(0, -6) + entry.slice(-6).split('').reverse().join('')), changed)
  const otherKey = { ...kms.settings, AWS_KMS_KEY_ID: kms.otherKeyId }
  t.match(await refused(entry, otherKey), /another key .* Set AWS_KMS_KEY_ID/)

  // What the same key of AWS KMS encrypted for another service.
  const EncryptionContext = { key_id: 'k1', purpose: 'key-ring', service: 'another' }
  const { CiphertextBlob = [] } = await kms.api.encrypt({ KeyId: kms.keyId, Plaintext: key, EncryptionContext })
  t.match(await refused(`k1:aws-kms:${Buffer.from(CiphertextBlob).toString('base64')}`), changed)
})

await t.test('each refusal of AWS KMS says what to do, and quotes nothing', async (t) => {
  const kms = await start(t)
  const { entry, key } = await wrappedKey('k1', 'aws-kms', kms.settings)
  const leaks = entryScanner(entry, key, kms.secrets)
  const clear = key.toString('base64')
  const answers: Array<[answer: Answer, message: RegExp]> = [
    [refusal('AccessDeniedException'), /denies the access\. Allow kms:Decrypt with the key of AWS_KMS_KEY_ID/],
    [refusal('InvalidCiphertextException'), /Restore it in ENCRYPTION_KEYS/],
    [refusal('IncorrectKeyException'), /Set AWS_KMS_KEY_ID to that one/],
    [refusal('NotFoundException'), /no such key\. Correct AWS_KMS_KEY_ID, or AWS_REGION/],
    [refusal('DisabledException', 409), /AWS_KMS_KEY_ID is disabled .* Enable it/],
    [refusal('KMSInvalidStateException', 409), /AWS_KMS_KEY_ID is disabled .* Enable it/],
    [refusal('InvalidKeyUsageException'), /AWS_KMS_KEY_ID names no symmetric key/],
    [refusal('ValidationException'), /AWS_KMS_KEY_ID names no symmetric key/],
    [refusal('UnrecognizedClientException'), /does not accept the credentials\. Renew them/],
    [refusal('InvalidSignatureException'), /set the clock of this machine right/],
    [refusal('ExpiredTokenException'), /does not accept the credentials\. Renew them/],
    [refusal('ThrottlingException'), /fails at present \(HTTP 400\)\. Try again later/],
    [refusal('KMSInternalException', 500), /fails at present \(HTTP 500\)/],
    [refusal(clear), /cannot be called \(HTTP 400\)\. Correct AWS_REGION, AWS_ENDPOINT_URL_KMS/],
    [raw(502, `<html>${clear}`), /fails at present \(HTTP 502\)/],
    [raw(200, `<html>${clear}`), /cannot be called \(HTTP 200\)\. .*AWS_ENDPOINT_URL_KMS/],
    [raw(301, clear, { location: '/' }), /cannot be called \(HTTP 301\)/],
    [json(200, {}), /answers without a key\. Correct AWS_ENDPOINT_URL_KMS/],
    [json(200, { Plaintext: 5 }), /answers without a key/],
    [json(200, { Plaintext: key.subarray(1).toString('base64') }), /no key of 32 bytes\. Make one with keys:new/],
    [json(200, { Plaintext: '' }), /no key of 32 bytes/],
    [breakOff, /cannot be called \(ECONNRESET\)\. .*the network/]
  ]
  for (const [answer, expected] of answers) {
    kms.answerWith(answer)
    const message = await messageOf(t, unwrapOnce(entry, kms.settings))
    t.match(message, expected)
    t.match(message, /^Some keys of ENCRYPTION_KEYS cannot be unwrapped:\n {2}k1 \(aws-kms\): [^\n]+$/)
    t.same(leaks('the message', message), [])
  }
  kms.answerWith()
  t.equal(await unwrapOnce(entry, kms.settings), `k1:${clear}`)
  kms.goAway()
  t.match(await messageOf(t, unwrapOnce(entry, kms.settings)), /cannot be called \(ECONNREFUSED\)/)
})

await t.test('a setting that is missing or wrong is named', async (t) => {
  const kms = await start(t)
  const { entry, key } = await wrappedKey('k1', 'aws-kms', kms.settings)
  const leaks = entryScanner(entry, key, kms.secrets)
  t.match(await messageOf(t, unwrapOnce(entry, transit)), /k1 \(aws-kms\): AWS_KMS_KEY_ID is not set\. Set it/)
  t.match(await messageOf(t, unwrapOnce(entry, { ...transit, AWS_KMS_KEY_ID: 'no-such-key' })), /AWS_KMS_KEY_ID/)
  // The SDK waits for this program without end.
  const slow = t.testdir({ config: '[default]\ncredential_process = sleep 5\n' })
  const variables: Array<[env: Record<string, string | undefined>, message: RegExp]> = [
    [{ AWS_REGION: undefined }, /AWS_REGION is not set\. Set it in the environment/],
    [{ AWS_REGION: 'x/y' }, /cannot be called \(Error\)\. Correct AWS_REGION/],
    [{ AWS_ENDPOINT_URL_KMS: 'nonsense' }, /cannot be called \(ERR_INVALID_URL\)\. .*AWS_ENDPOINT_URL_KMS/],
    [{ AWS_ACCESS_KEY_ID: 'AKIAWRONG' }, /does not accept the credentials/],
    [{ AWS_ACCESS_KEY_ID: undefined }, /no AWS credentials\. .*AWS_ACCESS_KEY_ID/],
    [{ AWS_ACCESS_KEY_ID: undefined, AWS_CONFIG_FILE: `${slow}/config` }, /\(no answer in time\)/]
  ]
  for (const [env, expected] of variables) {
    await t.test(String(expected), async (t) => {
      setProcessEnv(t, env)
      const message = await messageOf(t, unwrapOnce(entry, kms.settings))
      t.match(message, expected)
      t.same(leaks('the message', message), [])
    })
  }
})

await t.test('a key that AWS KMS does not wrap is refused', async (t) => {
  const kms = await start(t)
  const wrap = async () => await messageOf(t, wrappedKey('k1', 'aws-kms', kms.settings))
  kms.answerWith(refusal('AccessDeniedException'))
  t.match(await wrap(), /and kms:Encrypt for keys:new/)
  kms.answerWith(json(200, { CiphertextBlob: 'c2hvcnQ=' }))
  t.match(await wrap(), /aws-kms answers something that is no ciphertext/)
  kms.answerWith(silence)
  const began = performance.now()
  t.match(await wrap(), /cannot be called \(no answer in time\)/)
  t.ok(performance.now() - began < 4000, 'it ends after 3 s')
})
