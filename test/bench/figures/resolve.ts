import { randomInt } from 'node:crypto'
import { requestCost } from '../measure/request-cost.js'
import { interleaved } from '../measure/rounds.js'
import { compared, type Result } from '../report/result.js'
import { SEALED, type Stage } from '../stage/stage.js'
import { originOf } from './http.js'

/** Requests in a round. */
const READS = 5000
/** Tenants that the service has cached. */
const CACHED = 1000
const MAX_RATIO = 1.3

/** GET `/resolve` of cached tenants with a service key; the floor checks a key and answers as many bytes. */
export async function resolve ({ server, settings, start, tenants, authorize }: Stage): Promise<Result[]> {
  const [floor, ours] = [await start('resolve/floor'), await start('service-process')]
  const [floorOrigin, ourOrigin] = [await originOf(floor), await originOf(ours)]
  const api = `${ourOrigin}/api/v1/tenant`
  const paths = tenants.slice(0, Math.min(CACHED, SEALED)).map((id) => `/resolve?tenant_id=${id}`)
  const created = await fetch(`${api}/admin/service-keys`, {
    method: 'POST',
    headers: { ...authorize({ role: 'admin' }), 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'bench', scopes: ['credentials:read'] })
  })
  const ourHeaders = { authorization: `Bearer ${Object(await created.json()).key}` }
  const floorHeaders = { authorization: `Bearer ${String(settings['JWT_SECRET'])}` }
  const answers = await Promise.all(paths.map(async (path) => await fetch(api + path, { headers: ourHeaders })))
  const lengths = await Promise.all(answers.map(async (answer) => (await answer.text()).length))
  await floor.ask('answerOf', Math.round(lengths.reduce((sum, length) => sum + length) / lengths.length))

  const many = (prefix: string, headers: Record<string, string>) => Array.from({ length: READS }, () => (
    { method: 'GET' as const, path: prefix + paths[randomInt(paths.length)], headers }))
  const costs = await interleaved({
    floor: async () => await requestCost(floor, floorOrigin, server, many('', floorHeaders)),
    ours: async () => await requestCost(ours, ourOrigin, server, many('/api/v1/tenant', ourHeaders))
  })
  await Promise.all([floor.end(), ours.end()])
  return [compared('GET `/resolve` of cached tenants, whole request', costs, MAX_RATIO)]
}
