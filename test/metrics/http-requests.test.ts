import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import t from '../run/tap.js'
import { buildTestApp, connect, untilWaiting } from '../helper.js'
import { metricsUrl, scrape, scrapeUntil } from './scrape.js'

const CONFIG = '/api/v1/tenant/config'
const TENANT = 'a-tenant-that-no-label-names'

const { app, as, admin, databaseUrl, log } = await buildTestApp(t, { METRICS_PORT: 0 })
const url = metricsUrl(log())
const name = 'wtc_http_requests_total'

await t.test('requests count by the pattern of their route, their method and their status', async (t) => {
  const headers = as(TENANT)
  await app.inject({ url: CONFIG, headers })
  await app.inject({ method: 'POST', url: CONFIG, headers, payload: { waba_id: '1' } })
  await app.inject({ url: `${CONFIG}?tenant=${TENANT}`, headers })
  await app.inject({ url: CONFIG, headers })
  await app.inject({ method: 'HEAD', url: CONFIG, headers })
  await app.inject({ url: CONFIG })
  const configs = '/api/v1/tenant/admin/configs'
  await app.inject({ method: 'DELETE', url: `${configs}/delete-tenant/${TENANT}`, headers: admin })
  for (const path of [`/${TENANT}`, `${CONFIG}/${TENANT}`]) await app.inject({ url: path, headers })
  await app.inject({ method: 'PATCH', url: `/${TENANT}` })

  const { text, value } = await scrape(url)
  const count = (route: string, method: string, status: string) => value(name, { route, method, status })
  for (const [expected, route, method, status] of [
    [1, CONFIG, 'GET', '400'],
    [1, CONFIG, 'GET', '404'],
    [2, CONFIG, 'GET', '200'],
    [1, CONFIG, 'GET', '401'],
    [1, CONFIG, 'POST', '201'],
    [1, `${configs}/delete-tenant/:id`, 'DELETE', '204'],
    [3, 'unknown', 'any', '404']
  ] as const) t.equal(count(route, method, status), expected, `${method} ${route} ${status}`)
  t.equal(value('wtc_http_request_duration_seconds_count', { route: CONFIG, method: 'GET' }), 5)
  t.equal(value('wtc_http_request_duration_seconds_bucket', { route: CONFIG, method: 'GET', le: '+Inf' }), 5)
  t.ok((value('wtc_http_request_duration_seconds_sum', { route: CONFIG, method: 'GET' }) ?? 0) > 0)
  t.notMatch(text, TENANT, 'no tenant id')
})

await t.test('a request whose client leaves before the answer counts as aborted', async (t) => {
  const origin = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('begin; lock table tenant_configs')
  const client = connectTcp(Number(origin.port), origin.hostname)
  await once(client, 'connect')
  client.write(`GET ${CONFIG} HTTP/1.1\r\nhost: a\r\nauthorization: ${as(TENANT).authorization}\r\n\r\n`)
  await untilWaiting(databaseUrl, 1)
  client.destroy()
  await scrapeUntil(url, ({ value }) => value(name, { route: CONFIG, method: 'GET', status: 'aborted' }) === 1)
  await lockHolder.query('rollback')
  t.pass()
})
