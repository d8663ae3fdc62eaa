import { randomInt } from 'node:crypto'
import type { Request } from 'autocannon'
import { fire } from '../measure/drive.js'
import { interleaved, type Cost } from '../measure/rounds.js'
import { compared, type Result } from '../report/result.js'
import { TENANTS, type Stage } from '../stage/stage.js'
import { originOf } from './http.js'

/** Requests in a round. */
const READS = 3000

/** GET `/config` of a service that measures its requests; the floor is the same service without METRICS_PORT. */
export async function metrics ({ server, start, tenants, authorize }: Stage): Promise<Result[]> {
  const headers = tenants.map((tenant_id) => authorize({ tenant_id }))
  const children = {
    floor: await start('service-process'),
    ours: await start('service-process', { METRICS_PORT: 0 })
  }
  const origins = { floor: await originOf(children.floor), ours: await originOf(children.ours) }

  async function cost (who: 'floor' | 'ours'): Promise<Cost> {
    const requests = Array.from({ length: READS }, (): Request => (
      { method: 'GET', path: '/api/v1/tenant/config', headers: headers[randomInt(TENANTS)] }))
    const before = { node: await children[who].ask('cpu'), postgres: server.cpu() }
    await fire(origins[who], requests)
    const after = { node: await children[who].ask('cpu'), postgres: server.cpu() }
    return { node: (after.node - before.node) / READS, postgres: (after.postgres - before.postgres) / READS }
  }

  const result = compared('GET `/config` with metrics on, against off', await interleaved({
    floor: async () => await cost('floor'),
    ours: async () => await cost('ours')
  }), 1.05)
  await Promise.all([children.floor.end(), children.ours.end()])
  return [result]
}
