import t from '../run/tap.js'
import { client } from '../routes/client.js'
import {
  accountUpdateUrl, APP_SECRET, FORMER_SECRET, signedHeaders, VERIFY_TOKEN, webhookService
} from './deliveries.js'

const { app, call, log } = await webhookService(t)

await t.test('the challenge is returned only for the right verify token', async (t) => {
  const verify = async (query: Record<string, string>, at = app) => {
    const { statusCode, headers, body } = await at.inject({ url: accountUpdateUrl, query })
    return { is: statusCode === 200 ? '200' : `${statusCode} ${JSON.parse(body).code}`, headers, body }
  }
  const good = { 'hub.mode': 'subscribe', 'hub.challenge': '1158201444', 'hub.verify_token': VERIFY_TOKEN }
  for (const challenge of [
    '1158201444', ' <script>alert(1)</script>&"\u00e9\u{1f600} ', '{"a":1}', 'x'.repeat(512), '\u{1f600}'.repeat(512),
    '0'
  ]) {
    const { is, headers, body } = await verify({ ...good, 'hub.challenge': challenge, 'hub.other': '1', x: '' })
    t.strictSame([is, body], ['200', challenge])
    t.match(headers, {
      'content-type': 'text/plain; charset=utf-8',
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store'
    })
  }
  for (const challenge of ['', 'x'.repeat(513), 'a\nb', '\0', '\x85']) {
    t.equal(
      (await verify({ ...good, 'hub.challenge': challenge })).is,
      '400 VALIDATION_FAILED',
      challenge
    )
  }
  for (const token of ['', 'x', VERIFY_TOKEN.slice(1), `${VERIFY_TOKEN} `, VERIFY_TOKEN.toUpperCase(), APP_SECRET]) {
    t.equal((await verify({ ...good, 'hub.verify_token': token })).is, '403 VERIFY_TOKEN_MISMATCH', token)
  }
  const strangers: Array<Record<string, string>> = [
    {}, { ...good, 'hub.mode': 'unsubscribe' }, { 'hub.challenge': 'a\nb' }
  ]
  for (const query of strangers) t.equal((await verify(query)).is, '403 VERIFY_TOKEN_MISMATCH')
  t.equal((await verify({ 'hub.mode': 'subscribe', 'hub.verify_token': VERIFY_TOKEN })).is, '400 VALIDATION_FAILED')
  const twice = `hub.verify_token=${encodeURIComponent(VERIFY_TOKEN)}`
  t.equal(
    (await call({}, 'GET', `${accountUpdateUrl}?hub.mode=subscribe&hub.challenge=1&${twice}&${twice}`)).is,
    '403 VERIFY_TOKEN_MISMATCH'
  )
  t.notMatch(log(), /1158201444|v\u00e9rify/)

  const bare = await client(t)
  for (const token of ['', 'undefined', 'null', VERIFY_TOKEN]) {
    t.equal(
      (await verify({ ...good, 'hub.verify_token': token }, bare.app)).is,
      '403 VERIFY_TOKEN_MISMATCH'
    )
  }
  for (const secret of ['', 'undefined', APP_SECRET]) {
    t.equal(
      (await bare.call({}, 'POST', accountUpdateUrl, '{}', signedHeaders('{}', secret))).is,
      '401 SIGNATURE_INVALID',
      'without a secret no signature is valid'
    )
  }
  const former = await client(t, { FB_APP_SECRETS_PREVIOUS: FORMER_SECRET })
  t.equal((await former.call({}, 'POST', accountUpdateUrl, '{}', signedHeaders('{}', FORMER_SECRET))).is, '200')
})
