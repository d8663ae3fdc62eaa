import { fork } from 'node:child_process'
import { once } from 'node:events'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { startWithMetaFault } from '../fixtures/fault-injection.js'
import { signed } from '../fixtures/server-process.js'
import type { Route } from '../graph/faults.js'
import { JWT_SECRET, until } from '../helper.js'
import { NEVER_MS, serviceProcesses, type Customer } from '../onboarding/processes/service-processes.js'
import { modulePath } from '../run/paths.js'
import type { Flood } from './flood.js'

t.setTimeout(600_000)

const { meta, start, customer, post } = await serviceProcesses(t)
const service = await start()
const api = `${service.origin}/api/v1/tenant`
const as = (tenant: string) => ({ authorization: `Bearer ${signed({ tenant_id: tenant }, JWT_SECRET)}` })

/** The number of requests in a flood. */
const REQUESTS = 500
/** The GETs of the other tenant: enough for a stable p99, and at most as many at once as one page sends. */
const GETS = 400
const AT_ONCE = 4
/**
 * The lower bound of the limit. On an idle machine a GET takes a few milliseconds.
 * Three times that is less than the processor time of the flood itself. The original fault took 13 seconds.
 */
const LEAST_MS = 250

const other = as((await customer(service)).tenant)

/** The latencies of the other tenant's GETs, in milliseconds. */
async function latencies (): Promise<number[]> {
  const times: number[] = []
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    while (times.length < GETS) {
      const began = performance.now()
      const response = await fetch(`${api}/config`, { headers: other })
      await response.text()
      times.push(response.status === 200 ? performance.now() - began : Infinity)
    }
  }))
  return times
}

const p99 = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length * 0.99)] ?? NaN

/** Starts a flood process; `startFlood` starts the flood, and `statuses` returns the counts so far. */
async function startFlooder (t: Test) {
  const child = fork(modulePath('test/tenant-queues/flood.ts'))
  t.teardown(() => { child.kill('SIGKILL') })
  let statuses: Record<string, number> = {}
  child.on('message', (message: Record<string, number>) => { statuses = message })
  await once(child, 'message')
  return { startFlood: (flood: Flood) => { child.send(flood) }, statuses: () => statuses }
}

const unanswered = { latency_ms: NEVER_MS, times: Infinity }
/** Stores a token for the tenant and lets Meta never answer this route. */
const leaveUnanswered = (route: Route) => async ({ tenant }: Customer) => {
  meta.fail(route, unanswered)
  const headers = { ...as(tenant), 'content-type': 'application/json' }
  const { status } = await fetch(`${api}/config`, {
    method: 'PUT',
    headers,
    body: JSON.stringify({ access_token: 'EAAG-a-token' })
  })
  t.equal(status, 200)
}
interface Kind {
  method: string
  path: string
  body?: object
  refused?: number
  prepare: (busy: Customer) => Promise<void>
}
const kinds: Record<string, Kind> = {
  resume: {
    method: 'POST',
    path: 'onboard/whatsapp-client/resume',
    // The login that all resumptions wait for also takes one place.
    refused: REQUESTS - 54,
    async prepare (busy) {
      await startWithMetaFault(meta, 'subscribe', unanswered, async () => await post(service, busy))
    }
  },
  verify: { method: 'POST', path: 'config/verify', refused: REQUESTS - 55, prepare: leaveUnanswered('debug_token') },
  'a dry run': {
    method: 'POST',
    path: 'config/verify',
    body: { waba_id: '1' },
    refused: REQUESTS - 55,
    prepare: leaveUnanswered('debug_token')
  },
  leave: {
    method: 'DELETE',
    path: 'config?unsubscribe=true',
    refused: REQUESTS - 55,
    prepare: leaveUnanswered('unsubscribe')
  },
  start: {
    method: 'POST',
    path: 'onboard/whatsapp-client/start',
    body: { redirect_uri: 'https://a.example' },
    prepare: async () => {}
  }
}

for (const [name, { method, path, body, refused, prepare }] of Object.entries(kinds)) {
  await t.test(`a flood of ${REQUESTS} requests to ${name} at most triples the p99 of another tenant`, async (t) => {
    meta.clearFaults()
    meta.requests.length = 0
    const busy = await customer(service)
    await prepare(busy)
    const { startFlood, statuses } = await startFlooder(t)
    const text = body === undefined ? '' : JSON.stringify(body)
    const headers = {
      ...as(busy.tenant),
      ...body && { 'content-type': 'application/json', 'content-length': String(text.length) }
    }
    const before = p99(await latencies())
    startFlood({ url: `${api}/${path}`, method, headers, body: text, count: REQUESTS })
    const during = p99(await latencies())
    // The load of the machine may have changed during the flood.
    const after = p99(await latencies())
    t.comment(`${name}: p99 before ${before.toFixed()} ms, at first ${during.toFixed()} ms, then ${after.toFixed()} ms`)
    t.ok(Math.min(during, after) <= Math.max(3 * before, LEAST_MS))
    if (refused === undefined) return
    await until(() => (statuses()['429 5'] ?? 0) >= refused)
    t.same(statuses(), { '429 5': refused }, '5 requests run and 50 wait')
  })
}
