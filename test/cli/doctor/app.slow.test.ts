import { once } from 'node:events'
import { createServer } from 'node:http'
import t from '../../run/tap.js'
import { GraphError, temporarilyDown, throttled } from '../../graph/errors.js'
import { faults } from '../../graph/faults.js'
import { canary } from '../../secrets/canaries.js'
import { startPatient, statuses } from './patient.js'
import { runRows } from './rows.js'

// A process for each row.
t.setTimeout(300_000)

const patient = await startPatient(t)
const { graph, check } = patient
const other = graph.state.addApp({ app_secret: canary('other') })

const noApp = { app: 'skipped', webhook: 'skipped' }
const noAppAtAll = { ...noApp, webhook_verify_token: 'skipped', login_config: 'skipped' }
const noMeta = { meta: 'failed', clock: 'skipped', api_version: 'skipped', ...noApp }
const appFailed = { app: 'failed', webhook: 'skipped' }
const without = { FB_APP_ID: '', FB_APP_SECRET: '' }
const noSettings = Object.fromEntries(
  Object.keys(statuses()).map((name) => [name, name === 'settings' ? 'failed' : 'skipped'])
)
const hoursAway = (hours: number) => ({ headers: { date: new Date(Date.now() + hours * 3_600_000).toUTCString() } })

await runRows(t, patient, [
  { wrong: 'nothing', found: {}, says: /Meta accepts FB_APP_SECRET for the app \d+\./ },
  {
    wrong: 'two settings',
    env: { GRAPH_TIMEOUT_MS: 'soon', PORT: 'x' },
    found: noSettings,
    says: /PORT is not usable: .*; GRAPH_TIMEOUT_MS is not usable: milliseconds, .*\.env.*README/
  },
  {
    wrong: 'the app id',
    env: { FB_APP_ID: '1' },
    found: appFailed,
    says: /no app 1 \(HTTP 401, code 101\)\. Copy the app id from App Dashboard > App settings > Basic to FB_APP_ID/
  },
  {
    wrong: 'the secret',
    env: { FB_APP_SECRET: canary('wrong') },
    found: appFailed,
    says: /does not accept FB_APP_SECRET .*another app's\. Copy the app secret from App Dashboard > App settings > B/
  },
  {
    wrong: 'the secret, which is another app\'s',
    env: { FB_APP_SECRET: other.app_secret },
    found: appFailed,
    says: /does not accept FB_APP_SECRET .*code 190/
  },
  {
    wrong: 'the form of the app id',
    env: { FB_APP_ID: `../${canary('id')}` },
    found: appFailed,
    says: /digits only.*Copy both from App Dashboard/
  },
  {
    wrong: 'the form of the secret',
    env: { FB_APP_SECRET: `é ${canary('é')}` },
    found: appFailed,
    says: /no app secret has/
  },
  {
    wrong: 'the app, by the policies of Meta',
    fault: ['app', { reply: new GraphError(400, 368, `Words of Meta's: ${canary('words')}`) }],
    found: appFailed,
    says: /code 368.*restricts the app/
  },
  { wrong: 'the answer about the app', fault: ['app', { patch: { id: '2' } }], found: appFailed, says: /\(HTTP 200\)/ },
  {
    wrong: 'too many calls',
    fault: ['app', { reply: throttled(4) }],
    found: appFailed,
    says: /code 4\).*again in an hour/
  },
  {
    wrong: 'a version that expired',
    env: { GRAPH_API_VERSION: 'v19.0' },
    found: { api_version: 'failed' },
    says: /serves v21\.0 in place of v19\.0.*GRAPH_API_VERSION=v21\.0.*App settings > Advanced > Upgrade API version/
  },
  {
    wrong: 'a version that is too old for the app',
    env: { GRAPH_API_VERSION: 'v25.0' },
    fault: ['app', { headers: { 'facebook-api-version': 'v26.0' } }],
    found: { api_version: 'failed' },
    says: /serves v26\.0 in place of v25\.0/
  },
  {
    wrong: 'a version that never existed',
    env: { GRAPH_API_VERSION: 'v99.0' },
    found: { api_version: 'failed', ...noApp },
    says: /knows no version v99\.0/
  },
  {
    wrong: 'an answer without its version',
    fault: ['app', { headers: { 'facebook-api-version': canary('version') } }],
    found: { api_version: 'warning' },
    says: /does not say which version/
  },
  { wrong: 'a slow clock', fault: ['app', hoursAway(1)], found: { clock: 'failed' }, says: /\d s behind Meta's.*NTP/ },
  { wrong: 'a fast clock', fault: ['app', hoursAway(-1)], found: { clock: 'failed' }, says: /\d{4} s ahead of/ },
  {
    wrong: 'an answer without a date',
    fault: ['app', { headers: { date: canary('date') } }],
    found: { clock: 'warning' },
    says: /no date/
  },
  {
    wrong: 'an unreachable Meta',
    env: { GRAPH_API_BASE_URL: 'http://127.0.0.1:2' },
    found: noMeta,
    says: /127\.0\.0\.1:2 cannot be reached \(ECONNREFUSED\)/
  },
  {
    wrong: 'a port that fetch blocks',
    env: { GRAPH_API_BASE_URL: 'http://127.0.0.1:1' },
    found: noMeta,
    says: /cannot be reached \(unknown reason\)/
  },
  {
    wrong: 'a late answer of Meta',
    env: { GRAPH_TIMEOUT_MS: '1000' },
    fault: ['app', { latency_ms: 60_000 }],
    found: noMeta,
    says: /did not answer within 1000 ms/
  },
  {
    wrong: 'an outage of Meta',
    fault: ['app', { reply: temporarilyDown() }],
    found: noMeta,
    says: /HTTP 500, code 2.*later/
  },
  { wrong: 'a proxy', fault: ['app', faults.badGateway], found: noMeta, says: /HTTP 502\)/ },
  {
    wrong: 'a page in place of the Graph API',
    fault: ['app', { reply: { status: 200, body: `<html>${canary('page')}` } }],
    found: noMeta,
    says: /not as the Graph API does \(HTTP 200\)/
  },
  {
    wrong: 'a redirect in place of the Graph API',
    fault: ['app', faults.redirect(`https://elsewhere.example/${canary('location')}`)],
    found: noMeta,
    says: /HTTP 302/
  },
  { wrong: 'no app', env: without, found: noAppAtAll, says: /FB_APP_ID is not set: each tenant brings its own app/ },
  {
    wrong: 'no app, and a version that never existed',
    env: { ...without, GRAPH_API_VERSION: 'v99.0' },
    found: { api_version: 'failed', ...noAppAtAll },
    says: /knows no version/
  },
  {
    wrong: 'no app, and an unreachable Meta',
    env: { ...without, GRAPH_API_BASE_URL: 'http://127.0.0.1:2' },
    found: { ...noMeta, ...noAppAtAll },
    says: /cannot be reached/
  }
])

await t.test('an answer that never ends does not hold the command up', async (t) => {
  const server = createServer((_req, res) => { res.writeHead(200, { 'content-type': 'application/json' }).write('{') })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : ''
  t.match(await check({ GRAPH_API_BASE_URL: `http://127.0.0.1:${port}`, GRAPH_TIMEOUT_MS: '500' }), {
    code: 1,
    statuses: statuses(noMeta),
    texts: { meta: /did not answer within 500 ms/ }
  })
})
