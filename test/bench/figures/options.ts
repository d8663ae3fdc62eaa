import { randomInt } from 'node:crypto'
import { withoutLimits } from '../../helper.js'
import { requestCost } from '../measure/request-cost.js'
import { interleaved } from '../measure/rounds.js'
import { compared, type Result } from '../report/result.js'
import { TENANTS, type Stage } from '../stage/stage.js'
import { originOf } from './http.js'

/** Requests in a round. */
const READS = 3000
const MAX_RATIO = 1.05
/** No request reaches it. */
const HIGH_LIMIT = 10_000_000

const options = {
  'GET `/config` with metrics on, against off': { METRICS_PORT: 0 },
  'GET `/config` with limits on, against off':
    Object.fromEntries(Object.keys(withoutLimits).map((name) => [name, HIGH_LIMIT]))
}

/** GET `/config` of a service with an option; the floor is the same service without it. */
export async function optionCosts ({ server, start, tenants, authorize }: Stage): Promise<Result[]> {
  const headers = tenants.map((tenant_id) => authorize({ tenant_id }))
  const results: Result[] = []
  for (const [figure, settings] of Object.entries(options)) {
    const [floor, ours] = [await start('service-process'), await start('service-process', settings)]
    const measure = async (child: typeof floor) => {
      const origin = await originOf(child)
      return async () => await requestCost(child, origin, server, Array.from({ length: READS }, () => (
        { method: 'GET', path: '/api/v1/tenant/config', headers: headers[randomInt(TENANTS)] })))
    }
    const costs = await interleaved({ floor: await measure(floor), ours: await measure(ours) })
    results.push(compared(figure, costs, MAX_RATIO))
    await Promise.all([floor.end(), ours.end()])
  }
  return results
}
