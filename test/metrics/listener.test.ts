import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { buildApp } from '../../src/app.js'
import { createMetricsListener } from '../../src/metrics/listener.js'
import { baseEnv, buildTestApp, createDatabase } from '../helper.js'
import { metricsUrl, scrape } from './scrape.js'

/** A port that is in use until the test ends. */
async function takenPort (t: Test): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const address = server.address()
  return typeof address === 'object' ? Number(address?.port) : NaN
}

await t.test('without METRICS_PORT nothing listens, and no request is measured', async (t) => {
  const { app, log } = await buildTestApp(t)
  t.throws(() => metricsUrl(log()), /serves no metrics/)
  t.equal((await app.inject('/metrics')).statusCode, 404)
})

await t.test('the listener has one path, and two methods', async (t) => {
  const { app, log } = await buildTestApp(t, { METRICS_PORT: 0 })
  const url = metricsUrl(log())
  t.match(url, /^http:\/\/127\.0\.0\.1:\d+\/metrics$/)
  const { headers } = await fetch(url)
  t.equal(headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
  t.equal(headers.get('cache-control'), 'no-store')
  for (const [expected, method, path] of [
    [200, 'GET', '?name=wtc'], [200, 'HEAD', ''], [405, 'POST', ''], [405, 'DELETE', ''], [404, 'GET', '/more'],
    [404, 'GET', '/../health/live'], [404, 'GET', '/../']
  ] as const) {
    const response = await fetch(url + path, { method })
    t.equal(response.status, expected, `${method} ${path}`)
    if (expected !== 200 || method === 'HEAD') t.equal(await response.text(), '')
  }
  t.equal((await app.inject('/metrics')).statusCode, 404, 'the API has no such path')
})

await t.test('on an IPv6 address the URL has brackets', async (t) => {
  const { log } = await buildTestApp(t, { METRICS_PORT: 0, METRICS_HOST: '::1' })
  const url = metricsUrl(log())
  t.match(url, /^http:\/\/\[::1\]:\d+\/metrics$/)
  t.equal((await scrape(url)).value('wtc_database_up'), 1)
})

await t.test('the close of the service ends the connections and frees the port', async (t) => {
  const { app, log } = await buildTestApp(t, { METRICS_PORT: 0 })
  const { port, hostname } = new URL(metricsUrl(log()))
  const idle = connect(Number(port), hostname)
  await once(idle, 'connect')
  const ended = once(idle, 'close')
  await app.close()
  await ended
  await t.rejects(fetch(metricsUrl(log())))
})

await t.test('an unusable address is an error that names the settings', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  for (const [env, message] of [
    [
      { METRICS_PORT: await takenPort(t) },
      /^The metrics cannot be served: listen EADDRINUSE: .+ Set METRICS_HOST and METRICS_PORT to an address/
    ],
    [{ METRICS_PORT: 0, METRICS_HOST: '192.0.2.1' }, /^The metrics cannot be served: listen EADDRNOTAVAIL: /],
    [{ METRICS_PORT: 8123, PORT: 8123 }, /^METRICS_PORT is the port of the API: set it to another one\.$/]
  ] as const) {
    await t.rejects(buildApp({ ...baseEnv, LOG_LEVEL: 'silent', DATABASE_URL, ...env }), { message })
  }
})

await t.test('a scrape that fails is answered with 500 and logged', async (t) => {
  const errors: unknown[] = []
  const fault = new Error('no metrics')
  const listener = createMetricsListener({
    registry: { metrics: async () => { throw fault }, contentType: 'text/plain; version=0.0.4; charset=utf-8' },
    host: '127.0.0.1',
    port: 0,
    log: { error: (fields: unknown) => { errors.push(fields) } }
  })
  t.teardown(listener.close)
  t.equal((await fetch(await listener.open())).status, 500)
  t.strictSame(errors, [{ err: fault }])
})
