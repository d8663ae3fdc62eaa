import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { stringify } from 'lossless-json'
import { membersOf } from '../body.js'
import { GraphError, type Json } from '../errors.js'
import { patched, type Fault, type FaultQueue, type Reply } from '../faults.js'
import { findRoute } from '../routes/route-table.js'
import { noActiveToken } from '../routes/tokens/me.js'
import type { RecordedRequest } from '../server.js'
import { opaque, type GraphState } from '../state.js'

const OLDEST = 21
const NEWEST = 26

export interface Internals {
  state: GraphState
  queue: FaultQueue
  requests: RecordedRequest[]
  /** Sent with every answer. */
  headers: Record<string, string>
}

/** Answers one request as Graph does, or with the next queued fault; rejects when the client disconnects. */
export async function answer (
  { state, queue, requests, headers: commonHeaders }: Internals,
  req: IncomingMessage,
  res: ServerResponse
): Promise<void> {
  const { method = '', url = '', headers } = req
  const [, path = '', search = ''] = /^([^?]*)\??(.*)$/.exec(url) ?? []
  const [query, body] = [new URLSearchParams(search), await membersOf(req)]
  const params = new URLSearchParams([...query, ...body])
  const { version, rest } = splitVersion(path)
  const found = findRoute(state, method, rest, params)
  const record = {
    route: found?.route ?? null,
    method,
    path,
    query: Object.fromEntries(query),
    form: Object.fromEntries(body),
    headers,
    hung_up: false
  }
  requests.push(record)

  const fault: Fault = (found && queue.take(found.route)) ?? {}
  const disconnected = new AbortController()
  res.on('close', () => {
    record.hung_up = !res.writableFinished && !fault.drop
    disconnected.abort()
  })

  const execute = async (): Promise<Json> => {
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
  const reply = replaced && !fault.processed ? undefined : await replyOf(execute, fault.patch)
  if (fault.latency_ms) await delay(fault.latency_ms, undefined, { signal: disconnected.signal })
  const sent = fault.drop ? undefined : fault.reply ?? reply
  if (sent) send(res, `v${Math.max(version ?? NEWEST, OLDEST)}.0`, sent, { ...commonHeaders, ...fault.headers })
  else req.socket.destroy()
}

/** The major version, if Graph supports it. An expired one counts: Graph serves it as its oldest version. */
function splitVersion (path: string): { version: number | undefined, rest: string } {
  const [, major, minor, rest] = /^\/v(\d+)\.(\d+)(\/.*)$/.exec(path) ?? []
  const isSupported = minor === '0' && Number(major) >= 1 && Number(major) <= NEWEST
  return { version: isSupported ? Number(major) : undefined, rest: rest ?? path }
}

async function replyOf (execute: () => Promise<Json>, patch: Fault['patch']): Promise<GraphError | Reply> {
  try {
    // A fault may put bigints into the body.
    return { status: 200, body: stringify(patched(await execute(), patch)) ?? '' }
  } catch (error) {
    return error instanceof GraphError ? error : new GraphError(500, 1, `An unknown error occurred: ${String(error)}`)
  }
}

function send (res: ServerResponse, version: string, reply: GraphError | Reply, extra: Record<string, string>): void {
  const trace = opaque('A', 22)
  const { status, headers, body } = reply instanceof GraphError ? errorReply(reply, trace) : reply
  res.writeHead(status, {
    'content-type': 'application/json; charset=UTF-8',
    'facebook-api-version': version,
    'x-fb-trace-id': trace,
    'x-fb-request-id': trace,
    ...headers,
    ...extra
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
