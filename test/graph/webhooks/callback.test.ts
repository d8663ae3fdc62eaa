import t from '../../run/tap.js'
import { startWithAccounts } from '../routes/account.js'
import { startCallback } from './callback-server.js'

const { app, account } = await startWithAccounts(t)

await t.test('an override requires a callback that echoes the challenge', async t => {
  const { waba, subscribe } = account({ subscriptions: { [app.app_id]: {} } })
  const refused = async (url: string, message: string | RegExp, code: number, verifyToken = 'v') => {
    t.match(
      await subscribe({ override_callback_uri: url, verify_token: verifyToken }),
      { status: 400, body: { error: { type: 'OAuthException', code, message } } },
      url
    )
    t.strictSame(waba.subscriptions.get(app.app_id), {})
  }
  const failed = '(#2200) Callback verification failed with the following errors: '
  await refused(
    await startCallback(t, (_, res) => res.writeHead(403).end()),
    `${failed}HTTP Status Code = 403; HTTP Message = Forbidden`,
    2200
  )
  await refused(
    await startCallback(t, (query, res) => res.end(`"${query.get('hub.challenge')}"`)),
    `${failed}Response does not match challenge`,
    2200
  )
  await refused(
    await startCallback(t, (query, res) => res.writeHead(201).end(query.get('hub.challenge'))),
    'HTTP Status Code = 201',
    2200
  )
  await refused(
    await startCallback(t, (_, res) => res.writeHead(302, { location: '/' }).end()),
    'HTTP Status Code = 302',
    2200
  )
  await refused(await startCallback(t, (_, res) => res.destroy()), 'curl_errno = 7', 2200)
  const startedAt = performance.now()
  await refused(await startCallback(t, () => {}), /curl_errno = 28; .*timed out/, 2200)
  t.match(Math.round((performance.now() - startedAt) / 1000), 6)

  const long = `https://a.example/${'x'.repeat(182)}`
  t.equal(long.length, 200)
  for (const url of [
    `${long}x`, 'http://a.example/', 'ftp://127.0.0.1/', 'https://', 'x'
  ]) await refused(url, '(#100)', 100)
  await refused('https://a.example/', '(#100) The parameter verify_token is required', 100, '')
  const before = '(#100) Before override the current callback uri, your app must be subscribed to receive messages ' +
    'for WhatsApp Business Account'
  app.callback_url = null
  await refused(long, before, 100)
  app.callback_url = 'https://platform.example/webhooks'
  const unsubscribed = account()
  t.match(
    await unsubscribed.subscribe({ override_callback_uri: long, verify_token: 'v' }),
    { status: 400, body: { error: { code: 100, message: before } } }
  )
})
