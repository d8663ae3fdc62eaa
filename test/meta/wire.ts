import { createHmac } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
import { type Test } from 'tap'
import { createMetaGraph, type MetaGraph } from '../../src/meta/meta-graph.js'
import type { GraphOptions } from '../../src/meta/calls.js'
import type { Route } from '../graph/faults.js'
import { startGraph } from '../graph/server.js'

/** The app of all calls, also registered at the stand-in. */
export const app = { id: '670843887433847', secret: '0123456789abcdef0123456789abcdef' }
export const code = 'AQCodeThatIsSecret'
export const token = 'EAATokenThatIsSecret'
export const callback = { callback_url: 'https://a.example/hook?x=1&y=é', verify_token: 'VerifyTokenThatIsSecret' }
export const pin = '908172'
/** Values that no error and no log line may contain. */
export const secrets = [app.secret, code, token, callback.verify_token, pin, 'Meta quotes']

/** Every call, by the name of its route at the stand-in. */
export const calls = {
  access_token: (graph) => graph.exchangeCode(app, { code }),
  extend: (graph) => graph.extendToken(app, token, { sixtyDays: false }),
  debug_token: (graph) => graph.inspectToken(app, token),
  phone_numbers: (graph) => graph.listPhoneNumbers(app, token, '102290129340398'),
  subscribe: (graph) => graph.subscribeApp(app, token, '102290129340398'),
  override: (graph) => graph.overrideCallback(app, token, '102290129340398', callback),
  phone_override: (graph) => graph.overridePhoneCallback(app, token, '106540352242922', callback),
  subscriptions: (graph) => graph.subscriptionOf(app, token, '102290129340398'),
  unsubscribe: (graph) => graph.unsubscribeApp(app, token, '102290129340398'),
  phone: (graph) => graph.effectiveCallback(app, token, '106540352242922'),
  register: (graph) => graph.registerNumber(app, token, '106540352242922', pin)
} satisfies Partial<Record<Route, (graph: MetaGraph) => Promise<unknown>>>

/** The error that a call is rejected with. */
export const thrownBy = (call: Promise<unknown>): Promise<unknown> =>
  call.then(() => new Error('no failure'), (err: unknown) => err)

/** The `appsecret_proof` of a token. */
export const proof = (of: string) => createHmac('sha256', app.secret).update(of).digest('hex')

/** Writes the answer of a raw server. */
export type Answer = (res: ServerResponse) => void

/** Answers with `body` as JSON. */
export const json = (status: number, body: unknown, headers = {}): Answer => res => {
  res.writeHead(status, { 'content-type': 'application/json; charset=UTF-8', ...headers }).end(JSON.stringify(body))
}
/** Answers with `body` unchanged. */
export const raw = (status: number, body: string | Buffer, headers = {}): Answer =>
  res => { res.writeHead(status, headers).end(body) }
/** Answers with Meta's error envelope. It quotes all secrets, as Meta's messages may. */
export const refused = (status: number, code: number, subcode?: number, more = {}) => json(status, {
  error: {
    message: `Meta quotes ${secrets.join()}`,
    type: 'OAuthException',
    code,
    error_subcode: subcode,
    fbtrace_id: 'AbCdEfGhIjK',
    ...more
  }
}, { 'facebook-api-version': 'v27.0' })
/** Cuts the connection in place of an answer. */
export const drop: Answer = res => { res.socket?.destroy() }

/** A raw server for replies that the stand-in cannot produce: every request gets the same answer. */
export async function meta (t: Test, answer: Answer, options: Partial<GraphOptions> = {}) {
  const urls: (string | undefined)[] = []
  const server = createServer((req, res) => {
    urls.push(req.url)
    answer(res)
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const address = server.address()
  const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : address}`
  return { ...client(url, options), url, urls, server }
}

/** A client of the API at `baseUrl`, and its log lines. */
export function client (baseUrl: string, options: Partial<GraphOptions> = {}) {
  const lines: Record<string, unknown>[] = []
  const successes: object[] = []
  const log = { info: (line: object) => { successes.push(line) }, warn: (line: object) => { lines.push({ ...line }) } }
  return {
    graph: createMetaGraph({
      vault: { open: (sealed) => sealed },
      baseUrl,
      version: 'v26.0',
      timeoutMs: 2000,
      fetch,
      log,
      ...options
    }),
    lines,
    successes
  }
}

/** A stand-in whose app requires proofs, with one WABA that has the phone numbers "1" to "250". */
export async function standIn (t: Test) {
  const meta = await startGraph()
  t.teardown(meta.close)
  meta.state.addApp({ app_id: app.id, app_secret: app.secret, require_proof: true })
  const phones = Array.from({ length: 250 }, (_, i) => ({ id: String(i + 1) }))
  const waba = meta.state.addWaba({ app_ids: [app.id], phones })
  return { meta, waba, ...client(meta.url) }
}
