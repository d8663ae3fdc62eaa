import type { IncomingMessage, ServerResponse } from 'node:http'
import { Type } from '@sinclair/typebox'
import { textOf } from '../body.js'
import { isLoopback } from '../http/loopback.js'
import { addSeed, firstAppId, issueCode, issueToken } from '../seed.js'
import type { Graph } from '../server.js'
import { usageHeaders } from '../usage.js'
import { faultFrom, UsageJson } from './fault-json.js'
import { validate } from './validate.js'

const only = { additionalProperties: false }

const RevocationJson = Type.Object({ access_token: Type.String(), subcode: Type.Optional(Type.Integer()) }, only)

const WebhookJson = Type.Object({
  app_id: Type.Optional(Type.String()),
  body: Type.Record(Type.String(), Type.Unknown()),
  url: Type.Optional(Type.String()),
  duplicates: Type.Optional(Type.Integer({ minimum: 0 })),
  hour_ms: Type.Optional(Type.Integer({ minimum: 0 }))
}, only)

type Action = (graph: Graph, json: unknown) => unknown

const ACTIONS = new Map<string, Action>([
  ['GET state', ({ state }) => ({
    apps: [...state.apps.values()],
    wabas: [...state.wabas.values()].map(waba => ({ ...waba, subscriptions: Object.fromEntries(waba.subscriptions) })),
    businesses: [...state.businesses.values()],
    tokens: [...state.tokens].map(([text, { app, ...token }]) => ({ access_token: text, app_id: app.app_id, ...token }))
  })],
  ['POST seed', ({ state }, json) => {
    addSeed(state, json)
    return {}
  }],
  ['POST codes', ({ state }, json) => ({ code: issueCode(state, json) })],
  ['POST tokens', ({ state }, json) => ({ access_token: issueToken(state, json) })],
  ['POST revocations', ({ state }, json) => {
    const { access_token: text, subcode = 458 } = validate(RevocationJson, json)
    const token = state.tokens.get(text)
    if (!token) throw new Error('access_token: there is no such token')
    token.revoked = subcode
    return {}
  }],
  ['POST faults', (graph, json) => {
    const { route, fault } = faultFrom(json)
    graph.fail(route, fault)
    return {}
  }],
  ['DELETE faults', graph => {
    graph.clearFaults()
    return {}
  }],
  ['PUT usage', ({ headers }, json) => {
    for (const name of Object.keys(usageHeaders({ app: 0, business: 0 }))) delete headers[name]
    return Object.assign(headers, usageHeaders(validate(UsageJson, json)))
  }],
  ['GET requests', ({ requests }) => requests],
  ['DELETE requests', ({ requests }) => {
    requests.length = 0
    return {}
  }],
  ['POST webhooks', async (graph, json) => {
    const { app_id: appId = firstAppId(graph.state), body, ...options } = validate(WebhookJson, json)
    return await graph.deliver(appId, body, options)
  }]
])

/**
 * `/_control/…`: the methods of `Graph` over HTTP; test/graph/README.md documents them. Answers JSON:
 * - 400 `{"error": …}` for an invalid request
 * - 403 for a browser on a page of another origin
 * - 404 for an unknown action
 * - 200 otherwise
 */
export async function control (graph: Graph, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const { status, body } = await reply(graph, req)
  res.writeHead(status, { 'content-type': 'application/json; charset=UTF-8' })
  res.end(`${JSON.stringify(body, null, 2)}\n`)
}

async function reply (graph: Graph, req: IncomingMessage): Promise<{ status: number, body: unknown }> {
  const { method = '', url = '', headers } = req
  // Prevents DNS rebinding, and requests by pages of other origins.
  if (!isLoopback(`http://${headers.host}`) || (headers.origin !== undefined && !isLoopback(headers.origin))) {
    return { status: 403, body: { error: 'only for this machine' } }
  }
  const text = await textOf(req)
  const action = ACTIONS.get(`${method} ${url.slice('/_control/'.length)}`)
  if (!action) return { status: 404, body: { error: `there is only ${[...ACTIONS.keys()].join(', ')}` } }
  try {
    return { status: 200, body: await action(graph, text === '' ? {} : JSON.parse(text)) }
  } catch (error) {
    return { status: 400, body: { error: error instanceof Error ? error.message : String(error) } }
  }
}
