import { setTimeout as delay } from 'node:timers/promises'
import { withoutLimits } from '../../helper.js'
import { clock } from '../measure/clock.js'
import { quantile } from '../measure/rounds.js'
import { milliseconds, type Result } from '../report/result.js'
import type { Stage } from '../stage/stage.js'
import { originOf } from './http.js'

const FLOODING = 10
/** Each of them sends ten times the requests that one process accepts. */
const PER_SECOND = FLOODING * 100
const SECONDS = 60
const WARM_UP_SECONDS = 15
/** The pace of the eleventh tenant: below its own limit, on each of two processes. */
const PAUSE_MS = 60
const MAX_RATIO = 3

/** The p99 of one tenant on two processes, alone and while ten others flood every route. */
export async function flood ({ start, settings, tenants, authorize }: Stage): Promise<Result[]> {
  const graph = await start('graph')
  const limited = {
    // The defaults, and an address for each tenant.
    ...Object.fromEntries(Object.keys(withoutLimits).map((name) => [name, undefined])),
    TRUST_PROXY: '1',
    // Each refusal of the stand-in would be logged.
    LOG_LEVEL: 'fatal',
    GRAPH_API_BASE_URL: await originOf(graph),
    FB_APP_ID: '670843887433847',
    FB_APP_SECRET: '0123456789abcdef0123456789abcdef'
  }
  const services = [await start('service-process', limited), await start('service-process', limited)]
  const origins = await Promise.all(services.map(originOf))
  const startFlooder = async (from: number) => await start('flooder', {
    ...settings, FLOOD_ORIGINS: origins.join(), FLOOD_TENANTS: tenants.slice(from, from + FLOODING).join()
  })
  const [warmer, flooder] = [await startFlooder(0), await startFlooder(FLOODING)]
  const headers = { ...authorize({ tenant_id: tenants[2 * FLOODING] ?? '' }), 'x-forwarded-for': '203.0.113.1' }

  const failed: number[] = []

  /** The latencies of GET `/config` at the pace, on each process in turn, in microseconds. */
  async function latencies (seconds: number): Promise<number[]> {
    const times: Array<Promise<number>> = []
    for (const end = clock() + seconds * 1_000_000; clock() < end; await delay(PAUSE_MS)) {
      process.stderr.write(times.length % 100 === 0 ? '.' : '')
      times.push(latency(`${origins[times.length % origins.length]}/api/v1/tenant/config`))
    }
    return await Promise.all(times)
  }

  async function latency (url: string): Promise<number> {
    const began = clock()
    const status = await fetch(url, { headers }).then(async (response) => {
      await response.arrayBuffer()
      return response.status
    }, () => 0)
    if (status !== 200) failed.push(status)
    return status === 200 ? clock() - began : Infinity
  }

  // Other tenants warm up the code of every route: their limits are their own.
  await warmer.ask('flood', PER_SECOND, WARM_UP_SECONDS)
  await latencies(5)
  const alone = quantile(await latencies(SECONDS / 2), 0.99)
  const flooding = flooder.ask('flood', PER_SECOND, SECONDS)
  const flooded = quantile(await latencies(SECONDS), 0.99)
  const refused = await flooding
  await Promise.all([...services, graph, warmer, flooder].map(async (child) => await child.end()))
  return [{
    figure: 'GET `/config` of a tenant while ten others flood every route, p99, two processes; floor: alone ' +
      `(${Math.round(refused / PER_SECOND / SECONDS * 100)} % of the flood got 429; ` +
      `${failed.length} others failed)`,
    ours: milliseconds(flooded),
    floor: milliseconds(alone),
    ratio: flooded / alone,
    goal: `≤ ${MAX_RATIO.toFixed(2)} × alone`,
    met: flooded <= MAX_RATIO * alone
  }]
}
