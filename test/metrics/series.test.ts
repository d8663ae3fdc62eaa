import { Registry } from 'prom-client'
import type { FastifyInstance } from 'fastify'
import Fastify from 'fastify'
import t from '../run/tap.js'
import plugin from '../../src/app.js'
import * as errors from '../../src/errors.js'
import { createCollected } from '../../src/metrics/collected.js'
import { addGraphCalls } from '../../src/metrics/graph-calls.js'
import { createHttpRequests } from '../../src/metrics/http-requests.js'
import { baseEnv, createDatabase } from '../helper.js'
import { calls, drop, json, meta, raw, refused, type Answer } from '../meta/wire.js'
import { metricsUrl, scrape, type Sample } from './scrape.js'

/** What a service may have at most. */
const MAX_SERIES = 2000
/** Meta's codes of each rule of the error map, and the subcode where a rule has one. */
const CODES = [
  [0], [1], [2], [3], [10], [33], [100], [100, 33], [100, 36007], [100, 36008], [100, 36009], [101], [102], [190],
  [190, 460], [191], [200], [368], [803], [2200], [2500], [131031], [133000], [133004], [133005], [133010], [133016],
  [999999]
] as const
const LIMITS = [613, 80007, 80008, 17, 32, 4, 341]

/** All routes with their methods, and a service that measures them. */
async function service () {
  const fastify: FastifyInstance = Fastify({ logger: { level: 'info', stream: { write: (line) => { log += line } } } })
  let log = ''
  t.teardown(async () => { await fastify.close() })
  const routes: Array<[route: string, method: string]> = []
  fastify.addHook('onRoute', ({ url, method }) => {
    routes.push(...[method].flat().map((one): [string, string] => [url, one]))
  })
  await fastify.register(plugin, { env: { ...baseEnv, METRICS_PORT: 0, DATABASE_URL: await createDatabase(t) } })
  await fastify.ready()
  return { routes, log: () => log }
}

const { routes, log } = await service()

/** The samples of a registry that are not those of an empty one. */
async function count (registry: Registry): Promise<number> {
  return (await registry.metrics()).split('\n').filter((line) => line !== '' && !line.startsWith('#')).length
}

await t.test('with every route, status, call and outcome there are fewer than 2,000 series', async (t) => {
  const statuses = new Set(errors.errorClasses.map((ErrorClass) => String(new ErrorClass().statusCode)))
  const http = new Registry()
  const { record } = createHttpRequests(http)
  for (const status of [...statuses, '200', '201', '204', 'aborted']) {
    for (const [route, method] of routes) record({ route, method, status, seconds: 1 })
    for (const method of ['GET', 'POST', 'PUT', 'PROPFIND']) {
      record({ route: undefined, method, status, seconds: 1 })
    }
  }
  const ofHttp = await count(http)
  t.ok(routes.length > 30 && statuses.size > 10)

  const graph = new Registry()
  let answer: Answer = drop
  const client = await meta(t, (res) => { answer(res) })
  addGraphCalls(graph, createCollected(graph), client.graph)
  for (answer of [
    json(200, {}), json(200, { success: true }), raw(502, '<html>'), drop,
    ...CODES.map(([code, subcode]) => refused(400, code, subcode)),
    // Limits come last: they block further calls.
    ...LIMITS.map((code) => refused(400, code)), refused(429, 0)
  ]) for (const call of Object.values(calls)) await call(client.graph).catch(() => {})
  const ofGraph = await count(graph)

  const { samples } = await scrape(metricsUrl(log()))
  const isOther = ({ name }: Sample) => !/^wtc_(http|graph)_/.test(name)
  const others = samples.filter(isOther).length
  const sum = ofHttp + ofGraph + others
  t.ok(sum < MAX_SERIES, `${ofHttp} + ${ofGraph} + ${others} = ${sum} series`)
  t.comment(`${ofHttp} of requests, ${ofGraph} of calls, ${others} others`)
})
