import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { GraphError, type Json } from './errors.js'
import { FaultQueue, merge, type Fault, type Reply, type Route } from './faults.js'
import { noActiveToken } from './nodes.js'
import { findRoute } from './routes.js'
import { GraphState, opaque } from './state.js'

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
  /** Lets the next request(s) of a route go wrong; several faults of a route take turns. */
  fail: (route: Route, fault: Fault) => void
  clearFaults: () => void
  close: () => Promise<void>
}

const OLDEST = 21
const NEWEST = 26

/** Starts a stand-in of Meta's Graph API on a free port of the loopback interface. */
export async function startGraph (): Promise<Graph> {
  const state = new GraphState()
  const queue = new FaultQueue()
  const requests: RecordedRequest[] = []
  const server = createServer((req, res) => {
    // Only a client that is gone gets here: then there is nobody left to answer.
    answer(state, queue, requests, req, res).catch(() => res.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert(typeof address === 'object' && address !== null)
  return {
    url: `http://127.0.0.1:${address.port}`,
    state,
    requests,
    fail: (route, fault) => queue.add(route, fault),
    clearFaults: () => queue.clear(),
    close: () => new Promise(resolve => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  }
}

async function answer (state: GraphState, queue: FaultQueue, requests: RecordedRequest[], req: IncomingMessage, res: ServerResponse) {
  const { method = '', url = '', headers } = req
  const [, path = '', search = ''] = /^([^?]*)\??(.*)$/.exec(url) ?? []
  const [query, body] = [new URLSearchParams(search), await readBody(req)]
  const params = new URLSearchParams([...query, ...body])
  const { version, rest } = splitVersion(path)
  const found = findRoute(state, method, rest, params)
  const record = { route: found?.route ?? null, method, path, query: Object.fromEntries(query), form: Object.fromEntries(body), headers, hung_up: false }
  requests.push(record)

  const fault: Fault = (found && queue.take(found.route)) ?? {}
  const gone = new AbortController()
  res.on('close', () => {
    record.hung_up = !res.writableFinished && !fault.drop
    gone.abort()
  })

  const run = async (): Promise<Json> => {
    if (version === undefined) throw new GraphError(400, 2500, `Unknown path components: ${rest}`)
    if (!found) throw noActiveToken()
    return await found.handle(state, {
      method,
      params,
      bearer: /^Bearer (.+)$/i.exec(headers.authorization ?? '')?.[1],
      id: decodeURIComponent(found.id),
      url: `http://${headers.host}${path}`
    })
  }
  const replaced = fault.drop || fault.reply !== undefined
  const reply = replaced && !fault.processed ? undefined : await attempt(run, fault.patch)
  if (fault.latency_ms) await delay(fault.latency_ms, undefined, { signal: gone.signal })
  const sent = fault.drop ? undefined : fault.reply ?? reply
  if (sent) send(res, `v${Math.max(version ?? NEWEST, OLDEST)}.0`, sent)
  else req.socket.destroy()
}

/** The major version where Graph knows it. An expired one is known: it is served as the oldest usable. */
function splitVersion (path: string): { version: number | undefined, rest: string } {
  const [, major, minor, rest] = /^\/v(\d+)\.(\d+)(\/.*)$/.exec(path) ?? []
  const known = minor === '0' && Number(major) >= 1 && Number(major) <= NEWEST
  return { version: known ? Number(major) : undefined, rest: rest ?? path }
}

async function attempt (run: () => Promise<Json>, patch: Json = {}): Promise<GraphError | Reply> {
  try {
    return { status: 200, body: JSON.stringify(merge(await run(), patch)) }
  } catch (error) {
    return error instanceof GraphError ? error : new GraphError(500, 1, `An unknown error occurred: ${String(error)}`)
  }
}

function send (res: ServerResponse, version: string, reply: GraphError | Reply): void {
  const trace = opaque('A', 22)
  const { status, headers, body } = reply instanceof GraphError ? errorReply(reply, trace) : reply
  res.writeHead(status, {
    'content-type': 'application/json; charset=UTF-8',
    'facebook-api-version': version,
    'x-fb-trace-id': trace,
    'x-fb-request-id': trace,
    ...headers
  })
  res.end(body)
}

function errorReply ({ status, challenge, envelope }: GraphError, trace: string): Reply {
  return {
    status,
    headers: challenge === undefined ? {} : { 'www-authenticate': challenge },
    body: JSON.stringify({ error: { ...envelope, fbtrace_id: trace } })
  }
}

/** The members of a form, or of JSON where they are no objects; of anything else none. */
async function readBody (req: IncomingMessage): Promise<URLSearchParams> {
  const type = req.headers['content-type'] ?? ''
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk)
  const text = Buffer.concat(chunks).toString()
  if (type.startsWith('application/x-www-form-urlencoded')) return new URLSearchParams(text)
  if (!type.startsWith('application/json')) return new URLSearchParams()
  const plain = Object.entries(parse(text)).filter(([, value]) => typeof value !== 'object')
  return new URLSearchParams(Object.fromEntries(plain.map(([name, value]) => [name, String(value)])))
}

function parse (text: string): object {
  try {
    return Object(JSON.parse(text))
  } catch {
    // Graph makes no difference between a body that it cannot read and none.
    return {}
  }
}
