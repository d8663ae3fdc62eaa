import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import { control } from './control/control.js'
import type { Json } from './errors.js'
import { FaultQueue, type Fault, type Route } from './faults.js'
import { answer } from './http/answer.js'
import { GraphState } from './state.js'
import { deliver, type Delivery, type DeliveryOptions } from './webhooks/webhook-sender.js'

export interface RecordedRequest {
  /** `null` for an unknown route. */
  route: Route | null
  method: string
  /** As received: percent-encoded, without the query. */
  path: string
  query: Record<string, string>
  /** Members of the body, which is a form or JSON. */
  form: Record<string, string>
  headers: IncomingHttpHeaders
  /** Whether the client disconnected before the answer. */
  hung_up: boolean
}

export interface Graph {
  /** `http://127.0.0.1:<port>`, for GRAPH_API_BASE_URL. */
  url: string
  state: GraphState
  /** All requests so far, oldest first. */
  requests: RecordedRequest[]
  /** Headers of every following answer, such as those of `usageHeaders()`. */
  headers: Record<string, string>
  /** Queues a fault for the next request(s) of a route; several faults apply in order. */
  fail: (route: Route, fault: Fault) => void
  clearFaults: () => void
  /** Delivers a webhook of an app; resolves when it was accepted, or when Meta would have given up. */
  deliver: (appId: string, body: Json, options?: DeliveryOptions) => Promise<Delivery>
  close: () => Promise<void>
}

/**
 * Starts a stand-in of Meta's Graph API on the loopback interface.
 * @param options.port default 0, any free one
 */
export async function startGraph ({ port = 0 } = {}): Promise<Graph> {
  const internals = { state: new GraphState(), queue: new FaultQueue(), requests: [], headers: {} }
  const closing = new AbortController()
  const server = createServer((req, res) => {
    const answered = req.url?.startsWith('/_control/') ? control(graph, req, res) : answer(internals, req, res)
    // Rejects only when the client has disconnected, so no answer is possible.
    answered.catch(() => res.destroy())
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert(typeof address === 'object' && address !== null)
  const { state, queue, requests, headers } = internals
  const graph: Graph = {
    url: `http://127.0.0.1:${address.port}`,
    state,
    requests,
    headers,
    fail: (route, fault) => queue.add(route, fault),
    clearFaults: () => queue.clear(),
    deliver: (appId, body, options = {}) => deliver(state, appId, body, options, closing.signal),
    close: () => new Promise(resolve => {
      closing.abort()
      server.close(() => resolve())
      server.closeAllConnections()
    })
  }
  return graph
}
