import { createHash, createHmac } from 'node:crypto'
import t from '../run/tap.js'
import {
  accountUpdate, accountUpdateUrl, APP_SECRET, FORMER_SECRET, OLDER_SECRET, PREVIOUS_SECRETS, sign, signedHeaders,
  VERIFY_TOKEN, webhookService
} from './deliveries.js'

const { as, call, post, tenants, isActive, assertNoWrites } = await webhookService(t)

await t.test('only a signature of the exact bytes with a current or previous app secret is accepted', async (t) => {
  const [waba = '', left = ''] = await tenants(2)
  const body = '{"object":"whatsapp_business_account", "entry":[{"id":"1","changes":[{"field":"account_update",' +
    '"value":{"event":"PARTNER_REMOVED","note":"caf\\u00e9 \\ud83d\\ude00",' +
    `"waba_info":{"waba_id":"${waba}"}}}]}]}`
  const hex = sign(body, APP_SECRET).slice(7)
  const refused: Array<[string, Record<string, string>, (string | Buffer)?]> = [
    ['none', {}],
    ['empty', { 'x-hub-signature-256': '' }],
    ['the prefix alone', { 'x-hub-signature-256': 'sha256=' }],
    ['too short', { 'x-hub-signature-256': sign(body, APP_SECRET).slice(0, -1) }],
    ['too long', { 'x-hub-signature-256': `${sign(body, APP_SECRET)}0` }],
    ['as long in characters, not in bytes', { 'x-hub-signature-256': `${sign(body, APP_SECRET).slice(0, -1)}\u00e9` }],
    ['without its prefix', { 'x-hub-signature-256': hex }],
    ['upper case', { 'x-hub-signature-256': `sha256=${hex.toUpperCase()}` }],
    ['an upper-case prefix', { 'x-hub-signature-256': `SHA256=${hex}` }],
    ['twice', { 'x-hub-signature-256': `${sign(body, APP_SECRET)}, ${sign(body, APP_SECRET)}` }],
    ['with blanks', { 'x-hub-signature-256': `sha256= ${hex}` }],
    ['sha1 alone', { 'x-hub-signature': `sha1=${createHmac('sha1', APP_SECRET).update(body).digest('hex')}` }],
    ['in the other header', { 'x-hub-signature': sign(body, APP_SECRET) }],
    ['a plain digest', { 'x-hub-signature-256': `sha256=${createHash('sha256').update(body).digest('hex')}` }],
    ['another secret', signedHeaders(body, 'another')],
    ['the empty secret', signedHeaders(body, '')],
    ['the list of secrets', signedHeaders(body, PREVIOUS_SECRETS)],
    ['the verify token', signedHeaders(body, VERIFY_TOKEN)],
    ['another body', signedHeaders(body, APP_SECRET), body.replace(waba, left)],
    ['a byte more', signedHeaders(body, APP_SECRET), `${body} `],
    ['a byte less', signedHeaders(body, APP_SECRET), body.slice(0, -1)],
    ['JSON serialized again', signedHeaders(body, APP_SECRET), JSON.stringify(JSON.parse(body))],
    ['escapes written out', signedHeaders(body, APP_SECRET), body.replace('\\u00e9', '\u00e9')],
    ['no JSON', signedHeaders('{', APP_SECRET), '{{'],
    ['nothing', signedHeaders('{', APP_SECRET), '']
  ]
  await assertNoWrites(t, async () => {
    for (const [name, headers, sent = body] of refused) {
      const answer = await call({}, 'POST', accountUpdateUrl, sent, headers)
      t.strictSame([answer.is, answer.headers['www-authenticate']], ['401 SIGNATURE_INVALID', 'HMAC-SHA256'], name)
    }
    // A bearer token does not replace the signature.
    t.equal((await call(as(waba), 'POST', accountUpdateUrl, body)).is, '401 SIGNATURE_INVALID')
  })
  t.equal(await isActive(waba), true)
  for (const secret of [FORMER_SECRET, OLDER_SECRET]) {
    const [waba = ''] = await tenants(1)
    const text = JSON.stringify(accountUpdate('PARTNER_REMOVED', { waba }))
    t.equal((await post(text, secret)).is, '200', secret)
    t.equal(await isActive(waba), false)
  }
  t.equal((await post(body)).is, '200')
  t.strictSame([await isActive(waba), await isActive(left)], [false, true])
})

await t.test('a signed body of any content type and up to 3 MiB is accepted', async (t) => {
  for (const type of [
    undefined, 'text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data',
    'application/json; charset=latin1', 'nonsense', 'application/'
  ]) {
    const [waba = ''] = await tenants(1)
    const text = JSON.stringify(accountUpdate('PARTNER_REMOVED', { waba }))
    const { is, body } = await call({}, 'POST', accountUpdateUrl, Buffer.from(text), {
      'x-hub-signature-256': sign(text, APP_SECRET),
      ...type !== undefined && { 'content-type': type }
    })
    t.strictSame([is, body], ['200', { success: true }], String(type))
    t.equal(await isActive(waba), false)
  }
  const [waba = ''] = await tenants(1)
  const text = JSON.stringify(accountUpdate('PARTNER_REMOVED', { waba }))
  const longer = text.padEnd(3 * 1024 * 1024 + 1)
  t.equal((await post(longer)).is, '413 PAYLOAD_TOO_LARGE')
  t.equal(await isActive(waba), true)
  const longest = text.padEnd(3 * 1024 * 1024)
  t.equal(
    (await call({}, 'POST', `${accountUpdateUrl}?route=a&route=b`, longest, signedHeaders(longest, APP_SECRET))).is,
    '200',
    'other parameters of the URL are ignored'
  )
  t.equal(await isActive(waba), false)
})

await t.test('a signed body that is not JSON in UTF-8 is a 400', async (t) => {
  await assertNoWrites(t, async () => {
    for (const body of ['', ' ', '{', 'a=b', '{}{}', Buffer.from('"\xff"', 'latin1'), Buffer.from('{}', 'utf16le')]) {
      t.equal((await post(body)).is, '400 MALFORMED_JSON')
    }
  })
})
