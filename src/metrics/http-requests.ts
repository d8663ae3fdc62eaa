import type { FastifyReply, FastifyRequest } from 'fastify'
import { Counter, Histogram, type Registry } from 'prom-client'

/** In seconds. The service answers within 5; what calls Meta may take longer. */
const BUCKETS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 5, 30]

/** The label of a request that no route answers; its method may be any. */
const UNKNOWN_ROUTE = { route: 'unknown', method: 'any' }

/** Requests that are counted together. Counted one by one they take longer: their code is in no cache then. */
const BATCH = 100

interface Ended { route: string | undefined, method: string, status: string, seconds: number }

/** Creates the metrics of requests. Their labels have the pattern of the route, never its URL. */
export function createHttpRequests (registry: Registry) {
  const registers = [registry]
  const requests = new Counter({
    name: 'wtc_http_requests_total',
    help: 'Requests by route, method and status; the status is aborted when the client left before the answer.',
    labelNames: ['route', 'method', 'status'],
    registers,
    collect: count
  })
  const durations = new Histogram({
    name: 'wtc_http_request_duration_seconds',
    help: 'Time until a request was answered.',
    labelNames: ['route', 'method'],
    buckets: BUCKETS,
    registers,
    collect: count
  })
  const ended: Ended[] = []

  return { record, observe }

  /** HEAD counts as GET. */
  function record (request: Ended): void {
    if (ended.push(request) >= BATCH) count()
  }

  function count (): void {
    for (const { route, method, status, seconds } of ended.splice(0)) {
      const labels = route === undefined ? UNKNOWN_ROUTE : { route, method: method === 'HEAD' ? 'GET' : method }
      requests.inc({ ...labels, status })
      durations.observe(labels, seconds)
    }
  }

  /** Measures a request from now until its answer is sent, or its connection ends. */
  function observe (request: FastifyRequest, { raw: response }: FastifyReply): void {
    const startedAt = performance.now()
    // Not in an `onResponse` hook: it does not run when the client leaves.
    response.once('close', () => {
      const status = response.writableEnded ? String(response.statusCode) : 'aborted'
      const seconds = (performance.now() - startedAt) / 1000
      record({ route: request.routeOptions.url, method: request.method, status, seconds })
    })
  }
}
