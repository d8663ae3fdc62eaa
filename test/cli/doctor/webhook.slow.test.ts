import t from '../../run/tap.js'
import { GraphError } from '../../graph/errors.js'
import { faults } from '../../graph/faults.js'
import { canary } from '../../secrets/canaries.js'
import { PUBLIC_URL, startPatient, statuses, WEBHOOK_URL } from './patient.js'
import { runRows } from './rows.js'

// A process for each row.
t.setTimeout(300_000)

const patient = await startPatient(t)
const { graph, check } = patient
const failed = { webhook: 'failed' }
const configuration = 'App Dashboard > WhatsApp > Configuration'

await runRows(t, patient, [
  {
    wrong: 'nothing, behind a prefix',
    env: { PUBLIC_URL: `${PUBLIC_URL}/p/` },
    app: { callback_url: WEBHOOK_URL.replace('/api', '/p/api') },
    found: {},
    says: /accepts/
  },
  {
    wrong: 'no webhook',
    app: { callback_url: null },
    found: failed,
    says: new RegExp(`no webhook .*${configuration} > Webhook: enter .*${WEBHOOK_URL} and .* WEBHOOK_VERIFY_TOKEN`)
  },
  {
    wrong: 'no webhook, and no PUBLIC_URL',
    app: { callback_url: null },
    env: { PUBLIC_URL: '' },
    found: failed,
    says: /https:\/\/<your host>\/api\/v1\/tenant\/onboard\/account-update/
  },
  {
    wrong: 'a webhook that is not active',
    app: { webhook_active: false },
    found: failed,
    says: new RegExp(`not active\\. ${configuration} > Webhook: verify and save`)
  },
  {
    wrong: 'a webhook without the field',
    app: { webhook_fields: ['messages'] },
    found: failed,
    says: new RegExp(`no field account_update.*${configuration} > Webhook fields: subscribe to account_update`)
  },
  {
    wrong: 'the URL of the webhook, and its fields',
    app: {
      callback_url: `https://u:${canary('user')}@b.example/x?${canary('query')}#${canary('hash')}`,
      webhook_fields: []
    },
    found: failed,
    says: new RegExp(`no field account_update.*leads to https://b.example/x, not to ${WEBHOOK_URL}\\..*PUBLIC_URL`)
  },
  { wrong: 'a text as URL', app: { callback_url: canary('text') }, found: failed, says: /leads to no URL/ },
  { wrong: 'another scheme', app: { callback_url: `data:${canary('data')}` }, found: failed, says: /leads to no URL/ },
  {
    wrong: 'webhooks that Meta refuses',
    fault: ['app_subscriptions', { reply: new GraphError(400, 10, `Words of Meta's: ${canary('words')}`) }],
    found: failed,
    says: /HTTP 400, code 10/
  },
  { wrong: 'a lost answer', fault: ['app_subscriptions', faults.dropAfter], found: failed, says: /\(UND_ERR_SOCKET\)/ },
  {
    wrong: 'a late answer about the webhooks',
    env: { GRAPH_TIMEOUT_MS: '1000' },
    fault: ['app_subscriptions', { latency_ms: 60_000 }],
    found: failed,
    says: /no answer in time/
  },
  { wrong: 'no PUBLIC_URL', env: { PUBLIC_URL: '' }, found: { webhook: 'warning' }, says: /not compared: PUBLIC_URL/ },
  {
    wrong: 'no verify token',
    env: { WEBHOOK_VERIFY_TOKEN: '' },
    found: { webhook_verify_token: 'warning' },
    says: new RegExp(`${configuration} > Webhook > Verify token`)
  },
  {
    wrong: 'an http redirect URI in production',
    env: { NODE_ENV: 'production', OAUTH_REDIRECT_URIS: 'https://a.example/,http://localhost:3000/' },
    found: { oauth_redirect_uris: 'failed' },
    says: /http URLs \(1 of 2\)\..*App Dashboard > Facebook Login for Business > Settings > Valid OAuth Redirect URIs/
  },
  {
    wrong: 'an http redirect URI outside of production',
    env: { OAUTH_REDIRECT_URIS: 'http://127.0.0.1:3000/' },
    found: { oauth_redirect_uris: 'warning' },
    says: /http URLs \(1 of 1\)\..* in development/
  },
  {
    wrong: 'no redirect URIs',
    env: { OAUTH_REDIRECT_URIS: '' },
    found: { oauth_redirect_uris: 'ok' },
    says: /any redirect_uri/
  },
  {
    wrong: 'no redirect URIs in production',
    env: { NODE_ENV: 'production', OAUTH_REDIRECT_URIS: '' },
    found: { oauth_redirect_uris: 'warning' },
    says: /every login by redirect is refused/
  },
  {
    wrong: 'no configuration of the login',
    env: { FB_LOGIN_CONFIG_ID: '' },
    found: { login_config: 'warning' },
    says: /App Dashboard > Facebook Login for Business > Configurations/
  }
])

await t.test('former and odd forms of the subscriptions are read', async (t) => {
  const subscription = { object: 'whatsapp_business_account', callback_url: WEBHOOK_URL, active: 'true' }
  const page = { object: 'page', active: true, callback_url: WEBHOOK_URL, fields: ['account_update'] }
  for (const [data, code] of [
    [[null, page, { ...subscription, fields: ['account_update', 1, null] }], 0],
    [[page], 1],
    [[{ ...subscription, fields: 'account_update' }], 1],
    [[{ ...subscription, fields: ['account_update'], callback_url: null }], 1],
    ['none', 1]
  ] as const) {
    graph.fail('app_subscriptions', { patch: { data } })
    t.match(await check(), { code, statuses: statuses(code === 0 ? {} : failed) }, JSON.stringify(data))
  }
})
