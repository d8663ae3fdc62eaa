import { randomBytes, randomInt } from 'node:crypto'
import type { Request } from 'autocannon'
import { withoutWall } from '../../helper.js'
import { requestCost } from '../measure/request-cost.js'
import { interleaved, type Cost } from '../measure/rounds.js'
import { compared, type Result } from '../report/result.js'
import type { Child } from '../stage/process.js'
import { accessToken } from '../stage/seed.js'
import { SEALED, TENANTS, type Stage } from '../stage/stage.js'

/** Requests in a round of reads, and in one of writes, which wait for the disk. */
const READS = 3000
const WRITES = 1500

const ours = '/api/v1/tenant/config'
const json = { 'content-type': 'application/json' }

const configBody = () => ({
  callback_url: `https://${randomBytes(16).toString('hex')}.example.com/webhooks/whatsapp`,
  verify_token: randomBytes(24).toString('base64url')
})
const tokenBody = () => ({ access_token: accessToken() })

/** GET and PUT `/config`: whole requests, each for a random tenant with its own token. */
export async function http ({ server, start, tenants, authorize }: Stage): Promise<Result[]> {
  const headers = tenants.map((tenant_id) => authorize({ tenant_id }))
  const children = {
    floor: await start('floor'),
    ours: await start('service-process'),
    unwalled: await start('service-process', { ...withoutWall, DATABASE_WALL: 'if-possible' })
  }
  const origins = {
    floor: await originOf(children.floor),
    ours: await originOf(children.ours),
    unwalled: await originOf(children.unwalled)
  }

  /** The cost of these requests to one of the servers. */
  async function cost (who: keyof typeof children, requests: Request[]): Promise<Cost> {
    return await requestCost(children[who], origins[who], server, requests)
  }

  const get = (path: string) => many(READS, () => ({ method: 'GET', path, headers: headers[randomInt(TENANTS)] }))
  const put = (path: string, [from, to]: [number, number], body: () => object) => many(WRITES, () => (
    {
      method: 'PUT',
      path,
      headers: { ...headers[randomInt(from, to)], ...json },
      body: JSON.stringify(body())
    }))

  const getConfig = async (who: 'ours' | 'unwalled') => await interleaved({
    floor: async () => await cost('floor', get('/config')),
    ours: async () => await cost(who, get(ours))
  })
  const putConfig = async (who: 'ours' | 'unwalled') => await interleaved({
    floor: async () => await cost('floor', put('/config', [SEALED, TENANTS], configBody)),
    ours: async () => await cost(who, put(ours, [0, SEALED], configBody))
  })

  const results = [
    compared('GET `/config`, whole request, log level warn', await getConfig('ours'), 1.6),
    compared('the same without the wall', await getConfig('unwalled'), 1.25),
    compared('PUT `/config` of `callback_url` and `verify_token`, whole request', await putConfig('ours'), 2),
    compared('the same without the wall', await putConfig('unwalled'), 1.5),
    compared('PUT `/config` of a new `access_token`, whole request', await interleaved({
      floor: async () => await cost('floor', put('/token', [SEALED, TENANTS], tokenBody)),
      ours: async () => await cost('ours', put(ours, [0, SEALED], tokenBody))
    }))
  ]
  await Promise.all(Object.values(children).map(async (child) => await child.end()))
  return results
}

/** The origin at which a child serves HTTP. */
export const originOf = async (child: Child): Promise<string> => `http://127.0.0.1:${await child.ask('port')}`

const many = (count: number, make: () => Request): Request[] => Array.from({ length: count }, make)
