import t from '../run/tap.js'
import { tokenRefused } from '../graph/errors.js'
import { app as platform } from '../meta/wire.js'
import { client, config } from '../routes/client.js'
import {
  detailOf, failedChecks, PLATFORM_CALLBACK, TENANT_CALLBACK, verificationService, verifyUrl
} from './verification-service.js'

const { app, meta, issue, asked, tenant, verified } = await verificationService(t)

await t.test('a callback other than the expected one fails its check', async (t) => {
  for (const [fields, options, isExpected] of [
    [{}, {}, true],
    [{}, { override: TENANT_CALLBACK }, false],
    [{ callback_url: TENANT_CALLBACK }, { override: TENANT_CALLBACK }, true],
    [{ callback_url: TENANT_CALLBACK }, { override: 'https://TENANT.example:443/hook?a=b' }, true],
    [{ callback_url: TENANT_CALLBACK }, { override: `${TENANT_CALLBACK}c` }, false],
    [{ callback_url: TENANT_CALLBACK }, { override: 'no URL' }, false],
    [{ callback_url: TENANT_CALLBACK }, {}, false],
    [{ callback_url: TENANT_CALLBACK, phone_number_id: null }, { override: TENANT_CALLBACK }, true],
    [{ callback_url: TENANT_CALLBACK, phone_number_id: null }, { override: PLATFORM_CALLBACK }, false],
    [{ callback_url: TENANT_CALLBACK, phone_number_id: null }, {}, false]
  ] as const) {
    const { who } = await tenant(fields, options)
    const answer = await verified(t, who, isExpected ? [] : ['callback'])
    t.match(detailOf(answer, 'callback'), isExpected ? /expected callback_url/ : /elsewhere, or nowhere/)
    t.match(answer.body['config'], { last_verified_at: String })
  }
  const unset = await tenant({ callback_url: TENANT_CALLBACK })
  const onboardAgain = /^(?!.*Store a verify_token).*onboard again/
  const storeFirst = /Store a verify_token, then onboard again/
  t.match(detailOf(await verified(t, unset.who, ['callback']), 'callback'), storeFirst)
  t.match(detailOf(await verified(t, unset.who, ['callback'], { verify_token: 'x' }), 'callback'), onboardAgain)
  const set = await tenant({ callback_url: TENANT_CALLBACK, verify_token: 'x' })
  t.match(detailOf(await verified(t, set.who, ['callback']), 'callback'), onboardAgain)
  const fallback = await tenant({}, { override: TENANT_CALLBACK })
  t.match(detailOf(await verified(t, fallback.who, ['callback']), 'callback'), onboardAgain)
  // The callback of a number takes precedence over that of its account.
  for (const [override, phone, failed] of [
    [PLATFORM_CALLBACK, TENANT_CALLBACK, []],
    [TENANT_CALLBACK, PLATFORM_CALLBACK, ['callback']]
  ] as const) {
    const { who, waba } = await tenant({ callback_url: TENANT_CALLBACK }, { override })
    Object.assign(waba.phones[0] ?? {}, { override: { url: phone, verify_token: 'x' } })
    await verified(t, who, [...failed])
  }
  const nowhere = await tenant()
  meta.fail('phone', { patch: { webhook_configuration: null } })
  await verified(t, nowhere.who, ['callback'])
  meta.fail('phone', { reply: tokenRefused(463, 401) })
  t.match(detailOf(await verified(t, nowhere.who, ['callback']), 'callback'), /has expired/)
  t.match(
    await app.tokenWatch.healthOf(nowhere.id),
    { token_status: 'revoked', reason: 'meta_190_463' },
    'a token may become invalid between two calls'
  )

  const bare = await tenant({ phone_number_id: null }, { subscribed: false })
  t.match(
    detailOf(await verified(t, bare.who, ['subscription', 'callback']), 'callback'),
    /Not asked, because the check of subscription/
  )
})

await t.test('the check of callback passes without a call if no callback is expected', async (t) => {
  const { as, call } = await client(t, {
    GRAPH_API_BASE_URL: meta.url,
    FB_APP_ID: platform.id,
    FB_APP_SECRET: platform.secret
  })
  const waba = meta.state.addWaba({
    app_ids: [platform.id],
    subscriptions: { [platform.id]: { override: { url: TENANT_CALLBACK, verify_token: 'x' } } }
  })
  await call(as('acme'), 'POST', config, {
    waba_id: waba.id,
    phone_number_id: String(waba.phones[0]?.id),
    access_token: issue()
  })
  const answer = await call(as('acme'), 'POST', verifyUrl)
  t.strictSame([failedChecks(answer), detailOf(answer, 'callback')], [[], 'No callback_url is expected.'])
  t.strictSame(asked(), ['debug_token', 'phone_numbers', 'subscriptions'])
  t.strictSame(
    failedChecks(await call(as('acme'), 'POST', verifyUrl, { access_token: null })),
    ['token', 'assets', 'subscription']
  )
})
