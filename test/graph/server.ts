import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import { answer } from './answer.js'
import { control } from './control.js'
import type { Json } from './errors.js'
import { FaultQueue, type Fault, type Route } from './faults.js'
import { GraphState } from './state.js'
import { deliver, type Delivery, type DeliveryOptions } from './webhook-sender.js'

export interface RecordedRequest {
  /** `null` where the stand-in has no such route. */
  route: Route | null
  method: string
  /** As it came, still percent-encoded, without the query. */
  path: string
  query: Record<string, string>
  /** Of the body, be it a form or JSON. */
  form: Record<string, string>
  headers: IncomingHttpHeaders
  /** The client was gone before it had its answer. */
  hung_up: boolean
}

export interface Graph {
  /** `http://127.0.0.1:<port>`, to be used as GRAPH_API_BASE_URL. */
  url: string
  state: GraphState
  /** All requests so far, oldest first. */
  requests: RecordedRequest[]
  /** Headers that every answer gets from now on, as those of `usageHeaders()`. */
  headers: Record<string, string>
  /** Lets the next request(s) of a route go wrong; several faults of a route take turns. */
  fail: (route: Route, fault: Fault) => void
  clearFaults: () => void
  /** Delivers a webhook of an app; resolves when it was taken, or Meta would have given up. */
  deliver: (appId: string, body: Json, options?: DeliveryOptions) => Promise<Delivery>
  close: () => Promise<void>
}

/**
 * Starts a stand-in of Meta's Graph API on the loopback interface.
 * @param options.port default 0, any free one
 */
export async function startGraph ({ port = 0 } = {}): Promise<Graph> {
  const inside = { state: new GraphState(), queue: new FaultQueue(), requests: [], headers: {} }
  const closing = new AbortController()
  const server = createServer((req, res) => {
    const answered = req.url?.startsWith('/_control/') ? control(graph, req, res) : answer(inside, req, res)
    // Only a client that is gone gets here: then there is nobody left to answer.
    answered.catch(() => res.destroy())
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert(typeof address === 'object' && address !== null)
  const { state, queue, requests, headers } = inside
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
