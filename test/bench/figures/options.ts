import assert from 'node:assert'
import { randomInt } from 'node:crypto'
import type { EnvSource } from '../../../src/app.js'
import { withoutLimits } from '../../helper.js'
import { requestCost } from '../measure/request-cost.js'
import { interleaved, type Cost } from '../measure/rounds.js'
import { compared, type Result } from '../report/result.js'
import type { Child } from '../stage/process.js'
import { SEALED, type Stage } from '../stage/stage.js'
import { originOf } from './http.js'

/** Requests in a round. */
const READS = 3000
/** Two processes of the same code differ by up to 9 %. */
const PROCESSES = 3
/** Rounds before the measurement: the costs fall for about 12,000 requests. */
const WARM_UP = 4
const MAX_RATIO = 1.05
/** No request reaches it. */
const HIGH_LIMIT = 10_000_000

const options = {
  'GET `/config` with metrics on, against off': { METRICS_PORT: 0 },
  'GET `/config` with limits on, against off':
    Object.fromEntries(Object.keys(withoutLimits).map((name) => [name, HIGH_LIMIT]))
}

/** GET `/config` of services with an option; the floor is the same services without it. */
export async function optionCosts ({ server, start, tenants, authorize }: Stage): Promise<Result[]> {
  const headers = tenants.slice(0, SEALED).map((tenant_id) => authorize({ tenant_id }))
  const results: Result[] = []
  for (const [figure, settings] of Object.entries(options)) {
    const [floor, ours] = [await startServices(), await startServices(settings)]
    const costs = await interleaved({ floor: floor.measure, ours: ours.measure })
    results.push(compared(figure, costs, MAX_RATIO))
    await Promise.all([floor, ours].map(async ({ end }) => { await end() }))
  }
  return results

  /** Starts several processes, and returns a measurement that takes another one each round. */
  async function startServices (settings?: EnvSource) {
    const services: Array<{ child: Child, origin: string }> = []
    for (let i = 0; i < PROCESSES; i++) {
      const child = await start('service-process', settings)
      services.push({ child, origin: await originOf(child) })
    }
    const measure = async (round: number): Promise<Cost> => {
      const { child, origin } = services[round % PROCESSES] ?? assert.fail()
      return await requestCost(child, origin, server, Array.from({ length: READS }, () => (
        { method: 'GET', path: '/api/v1/tenant/config', headers: headers[randomInt(SEALED)] })))
    }
    for (let i = 0; i < WARM_UP * PROCESSES; i++) await measure(i)
    return { measure, end: async () => { await Promise.all(services.map(async ({ child }) => await child.end())) } }
  }
}
