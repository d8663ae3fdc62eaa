import { setImmediate as nextTurn } from 'node:timers/promises'
import underPressure from '@fastify/under-pressure'
import Fastify from 'fastify'
import t from '../../run/tap.js'
import whatsappTenantConfig from '../../../src/app.js'
import { acceptedShare } from '../../../src/http/admission/overload.js'
import { baseEnv, buildTestApp, until } from '../../helper.js'
import { config } from '../../routes/client.js'

const REQUESTS = 200

/** Makes each turn of the event loop take so long, for two of its measurements. */
async function delayLoop (turnMs: number): Promise<void> {
  const end = performance.now() + 11_000
  while (performance.now() < end) {
    const turnEnd = performance.now() + turnMs
    while (performance.now() < turnEnd);
    await nextTurn()
  }
}

await t.test('while the event loop is late a part of the requests is refused, but no probe', async (t) => {
  const { app, as, log, databaseUrl } = await buildTestApp(t, { CORS_ORIGINS: 'https://app.example.com' })
  const host = Fastify()
  t.teardown(async () => await host.close())
  await host.register(underPressure, { maxEventLoopDelay: 60_000 })
  await host.register(whatsappTenantConfig, { env: { ...baseEnv, DATABASE_URL: databaseUrl } })
  host.get('/', async () => 'ours')
  await host.ready()
  const headers = { origin: 'https://app.example.com', ...as('acme') }
  await delayLoop(400)
  const answers = await Promise.all(Array.from({ length: REQUESTS }, async () =>
    await app.inject({ url: config, headers })))
  const refused = answers.filter(({ statusCode }) => statusCode === 503)
  t.ok(refused.length > 0 && refused.length < REQUESTS, `refused ${refused.length} of ${REQUESTS}`)
  t.match(refused[0]?.json(), { code: 'OVERLOADED', status: 503 })
  t.match(refused[0]?.headers, {
    'retry-after': '5',
    'cache-control': 'no-store',
    'content-type': 'application/problem+json',
    'access-control-allow-origin': 'https://app.example.com'
  })
  t.notMatch(log(), 'answered OVERLOADED', 'a log line with a stack would cost more than the refusal')
  for (const url of ['/health/live', '/health/ready']) {
    for (let i = 0; i < 20; i++) t.equal((await app.inject(url)).statusCode, 200)
  }
  for (let i = 0; i < 50; i++) t.equal((await host.inject('/')).statusCode, 200, 'a host server is left alone')
  // The last measurement holds for 5 seconds.
  await until(async () => {
    const { statusCode } = await app.inject({ url: config, headers })
    return statusCode === 404
  })
})

await t.test('the later the loop, the fewer requests are accepted', async (t) => {
  t.equal(acceptedShare('eventLoopDelay', 200), 1)
  t.equal(acceptedShare('eventLoopDelay', 400), 0.5)
  t.equal(acceptedShare('eventLoopDelay', 20_000), 0.01)
  t.equal(acceptedShare('eventLoopDelay', Infinity), 1, 'without a measurement')
  t.equal(acceptedShare('eventLoopDelay', 400, 0.8), 1, 'late, but not busy')
  t.equal(acceptedShare('heapUsedBytes', 1e9), 0, 'none while the heap is full')
})
