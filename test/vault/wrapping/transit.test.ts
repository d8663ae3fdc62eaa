import type { Test } from 'tap'
import t from '../../run/tap.js'
import { breakOff, json, raw, silence, type Answer } from '../../fixtures/kms/stand-in.js'
import { refusal, startTransit } from '../../fixtures/kms/transit.js'
import { entryScanner, messageOf, unwrapOnce, wrappedKey } from './rings.js'

await t.test('a key wrapped by Transit is unwrapped with one call', async (t) => {
  for (const mount of ['transit', 'team-a/transit.eu']) {
    const transit = await startTransit(t, mount)
    const { entry, plain } = await wrappedKey('k1', 'transit', transit.settings)
    t.match(entry, /^k1:transit:vault:v1:[A-Za-z0-9+/]{80}$/)
    t.equal(await unwrapOnce(entry, { ...transit.settings, TRANSIT_ADDR: `${transit.url}/` }), plain)
    t.equal(transit.calls(), 2)

    // Another version of the service must send the same.
    const context = '{"key_id":"k1","purpose":"key-ring","service":"whatsapp-tenant-config"}'
    const data = await ask(transit, 'decrypt', { ciphertext: entry.slice('k1:transit:'.length) }, context)
    t.equal(`k1:${data.plaintext}`, plain)
  }
})

/** What Transit itself answers; `context` is what it authenticates. */
async function ask (
  { settings }: Awaited<ReturnType<typeof startTransit>>, operation: string, input: object, context: string
) {
  const { TRANSIT_ADDR, TRANSIT_TOKEN, TRANSIT_MOUNT, TRANSIT_KEY } = settings
  const reply = await fetch(`${TRANSIT_ADDR}/v1/${TRANSIT_MOUNT}/${operation}/${TRANSIT_KEY}`, {
    method: 'POST',
    headers: { 'x-vault-token': TRANSIT_TOKEN, 'x-vault-request': 'true' },
    body: JSON.stringify({ ...input, associated_data: Buffer.from(context).toString('base64') })
  })
  return JSON.parse(await reply.text()).data
}

await t.test('an entry opens under no other id, service or key of Transit, and not when it is changed', async (t) => {
  const transit = await startTransit(t)
  const { settings, secrets } = transit
  const { entry, key } = await wrappedKey('k1', 'transit', settings)
  const leaks = entryScanner(entry, key, secrets)
  const refused = async (keyRing: string, changes = {}) => {
    const message = await messageOf(t, unwrapOnce(keyRing, { ...settings, ...changes }))
    t.match(message, /^Some keys of ENCRYPTION_KEYS cannot be unwrapped:\n {2}k\d \(transit\): The entry is for anoth/)
    t.match(message, /Restore it in ENCRYPTION_KEYS .* correct TRANSIT_KEY\.$/)
    t.same(leaks('the message', message), [])
  }
  await refused(entry.replace('k1', 'k2'))
  await refused(entry.slice(0, -8) + entry.slice(-8).split('').reverse().join(''))
  await refused(entry, { TRANSIT_KEY: 'other' })
  await refused(entry, { TRANSIT_KEY: 'gone' })

  // What the same key of Transit encrypted for another service, and for none.
  for (const context of ['{"key_id":"k1","purpose":"key-ring","service":"another"}', '']) {
    const { ciphertext } = await ask(transit, 'encrypt', { plaintext: key.toString('base64') }, context)
    await refused(`k1:transit:${ciphertext}`)
  }
})

/** Asserts that a redirect is not followed, since the token would go along. */
async function assertUnfollowed (t: Test, status: number) {
  const [transit, elsewhere] = [await startTransit(t), await startTransit(t)]
  const { entry } = await wrappedKey('k1', 'transit', transit.settings)
  transit.answerWith(raw(status, '', { location: `${elsewhere.url}/v1/transit/decrypt/wtc` }))
  const message = await messageOf(t, unwrapOnce(entry, transit.settings))
  t.match(message, RegExp(`HTTP ${status}\\)\\. .*that of the active node`))
  t.equal(elsewhere.calls(), 0)
}

await t.test('a redirect is not followed', async (t) => {
  for (const status of [301, 307]) await assertUnfollowed(t, status)
})

await t.test('each refusal of Transit says what to do, and quotes nothing', async (t) => {
  const transit = await startTransit(t)
  const { entry, key } = await wrappedKey('k1', 'transit', transit.settings)
  const leaks = entryScanner(entry, key, transit.secrets)
  const clear = key.toString('base64')
  const notTransit = /TRANSIT_ADDR answers, but not as Transit does\. Set it to the URL/
  const answers: Array<[answer: Answer, message: RegExp]> = [
    [refusal(400), /Restore it in ENCRYPTION_KEYS .* TRANSIT_KEY/],
    [refusal(403), /refuses TRANSIT_TOKEN\. Renew it, and let its policy update transit\/decrypt\/wtc\.$/],
    [refusal(404), /no Transit engine\. Correct TRANSIT_MOUNT, or TRANSIT_ADDR/],
    [refusal(405), /TRANSIT_ADDR does not answer as Transit does \(HTTP 405\)/],
    [refusal(412), /TRANSIT_ADDR does not answer as Transit does \(HTTP 412\)/],
    [refusal(429), /fails at present \(HTTP 429\)\. See its log/],
    [refusal(500), /fails at present \(HTTP 500\)\. See its log/],
    [refusal(503), /sealed or in maintenance\. Unseal it/],
    [raw(204, ''), /\(HTTP 204\)/],
    [raw(200, `<html>${clear}`), notTransit],
    [raw(200, Buffer.alloc(65 * 1024, ' ')), notTransit],
    [json(200, null), notTransit],
    [json(200, { data: null }), notTransit],
    [json(200, { data: 5 }), notTransit],
    [json(200, { data: { plaintext: 5 } }), notTransit],
    [json(200, { data: { plaintext: '' } }), /no key of 32 bytes\. Make one with keys:new/],
    [json(200, { data: { plaintext: key.subarray(1).toString('base64') } }), /no key of 32 bytes/],
    [raw(200, clear, { 'content-length': 1000 }), /cannot be reached \(no answer in time\)/],
    [breakOff, /cannot be reached \(\w+\)\. See that it runs .* correct TRANSIT_ADDR/]
  ]
  for (const [answer, expected] of answers) {
    transit.answerWith(answer)
    const message = await messageOf(t, unwrapOnce(entry, transit.settings))
    t.match(message, expected)
    t.match(message, /^Some keys of ENCRYPTION_KEYS cannot be unwrapped:\n {2}k1 \(transit\): [^\n]+$/)
    t.same(leaks('the message', message), [])
  }
  transit.answerWith()
  const unwrap = async (changes = {}) => await messageOf(t, unwrapOnce(entry, { ...transit.settings, ...changes }))
  t.match(await unwrap({ TRANSIT_TOKEN: 'hvs.wrong' }), /refuses TRANSIT_TOKEN/)
  t.match(await unwrap({ TRANSIT_MOUNT: 'gone' }), /Correct TRANSIT_MOUNT/)
  transit.goAway()
  t.match(await unwrap(), /cannot be reached \((ECONNREFUSED|UND_ERR_SOCKET)\)/)
})

await t.test('all missing settings are named', async (t) => {
  const transit = await startTransit(t)
  const { entry } = await wrappedKey('k1', 'transit', transit.settings)
  const { TRANSIT_MOUNT } = transit.settings
  const expected = /k1 \(transit\): Not set: TRANSIT_ADDR, TRANSIT_TOKEN, TRANSIT_KEY\. Transit needs them; \.env\.exam/
  t.match(await messageOf(t, unwrapOnce(entry, { TRANSIT_MOUNT })), expected)
  for (const name of ['TRANSIT_ADDR', 'TRANSIT_TOKEN', 'TRANSIT_KEY'] as const) {
    const { [name]: unset, ...others } = transit.settings
    t.match(await messageOf(t, unwrapOnce(entry, others)), `k1 (transit): Not set: ${name}. `)
  }
  t.equal(transit.calls(), 1, 'only the wrapping called Transit')
})

await t.test('a key that Transit does not wrap is refused', async (t) => {
  const transit = await startTransit(t)
  const wrap = async (changes = {}) =>
    await messageOf(t, wrappedKey('k1', 'transit', { ...transit.settings, ...changes }))
  t.match(await wrap({ TRANSIT_KEY: 'gone' }), /does not encrypt with TRANSIT_KEY\. Name a key of the type aes256/)
  t.match(await wrap({ TRANSIT_TOKEN: 'hvs.wrong' }), /let its policy update transit\/encrypt\/wtc/)
  transit.answerWith(json(200, { data: { ciphertext: 'vault:v1:c2hvcnQ=' } }))
  t.match(await wrap(), /transit answers something that is no ciphertext/)
  transit.answerWith(silence)
  const began = performance.now()
  t.match(await wrap(), /cannot be reached \(no answer in time\)/)
  t.ok(performance.now() - began < 4000, 'it ends after 3 s')
})
