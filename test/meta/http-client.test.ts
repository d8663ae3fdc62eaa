import { connect } from 'node:net'
import t from '../run/tap.js'
import { graphErrorDetails } from '../../src/errors.js'
import type { MetaGraph } from '../../src/meta/meta-graph.js'
import { faults } from '../graph/faults.js'
import { app, calls, client, drop, json, meta, raw, standIn, thrownBy, token } from './wire.js'

/** The cause that Node reports when a host has several addresses and none accepts a connection. */
const causeOfConnecting = (port: number) => new Promise<unknown>((resolve) => {
  const addresses = [{ address: '127.0.0.1', family: 4 }, { address: '127.0.0.2', family: 4 }]
  connect({
    host: 'several.example',
    port,
    autoSelectFamily: true,
    lookup: (_host, _options, found) => { found(null, addresses) }
  }).on('error', resolve)
})

await t.test('only a request that never reached Meta counts as not sent', async t => {
  const gone = await meta(t, drop)
  await new Promise(resolve => gone.server.close(resolve))
  const never = async (graph: MetaGraph, label: string) => {
    for (const call of [calls.access_token, calls.subscribe]) {
      const err = await thrownBy(call(graph))
      t.match(err, { code: 'META_UNAVAILABLE' }, label)
      t.strictSame(
        graphErrorDetails(err),
        { sent: false, meta_code: null, meta_subcode: null, fbtrace_id: null },
        label
      )
    }
  }
  await never(gone.graph, 'refused')
  await never(client('http://no-such-host.invalid').graph, 'not found')

  const port = Number(new URL(gone.url).port)
  const failing = (cause: unknown) => client(
    gone.url,
    { fetch: () => Promise.reject(new TypeError('fetch failed', { cause })) }
  ).graph
  const everyAddress = await causeOfConnecting(port)
  t.type(everyAddress, AggregateError)
  await never(failing(everyAddress), 'each address refused')
  await never(failing(Object.assign(new Error(), { code: 'UND_ERR_CONNECT_TIMEOUT' })), 'no connection in time')
  await never(failing(Object.assign(new Error(), { code: 'EHOSTUNREACH', syscall: 'connect' })), 'unreachable')

  const perhaps = async (graph: MetaGraph, label: string) => {
    const err = await thrownBy(calls.access_token(graph))
    t.match(err, { code: 'META_EXCHANGE_UNKNOWN' }, label)
    t.match(graphErrorDetails(err), { sent: true }, label)
  }
  const plain = await meta(t, drop)
  await perhaps(client(plain.url.replace('http:', 'https:')).graph, 'TLS')
  for (const cause of [
    Object.assign(new Error(), { code: 'ECONNRESET', syscall: 'read' }),
    Object.assign(new Error(), { code: 'EHOSTUNREACH', syscall: 'read' }),
    Object.assign(new Error(), { code: 'CERT_HAS_EXPIRED' }),
    new AggregateError([Object.assign(new Error(), { syscall: 'connect' }), new Error('something else')]),
    new Error('bad port'),
    'no error at all',
    undefined
  ]) await perhaps(failing(cause), String(cause))
  await perhaps(client(gone.url, { fetch: () => Promise.reject(new Error('x')) }).graph, 'any error')

  for (const odd of [undefined, null, 'x', new Error('x'), {}]) t.equal(graphErrorDetails(odd), null)
})

await t.test('a token that no header can carry is not sent', async t => {
  const { graph, urls } = await meta(t, json(200, {}))
  for (const bad of ['', 'a b', 'é', 'a\r\nb']) {
    await t.rejects(graph.inspectToken({ id: 'é', secret: bad }, token), { code: 'META_APP_REJECTED' })
    const err = await thrownBy(graph.listPhoneNumbers(app, bad, '1'))
    t.match(err, { code: 'META_TOKEN_INVALID' })
    t.match(graphErrorDetails(err), { sent: false })
  }
  t.equal(urls.length, 0)
})

await t.test('after a 421 fetch repeats only reads', async t => {
  for (const [route, call] of Object.entries(calls)) {
    // After a 421 fetch repeats a request without a body, or with one that it can read again.
    const { graph, urls } = await meta(t, raw(421, ''))
    t.match(
      await thrownBy(call(graph)),
      { code: route === 'access_token' ? 'META_EXCHANGE_UNKNOWN' : 'META_UNEXPECTED_REPLY' }
    )
    const reads = ['debug_token', 'phone_numbers', 'subscriptions', 'phone']
    t.equal(urls.length, reads.includes(route) ? 2 : 1, route)
  }
})

await t.test('on a reset connection each call is sent once', async t => {
  const { meta, graph } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  await graph.subscriptionOf(app, token, [...meta.state.wabas.keys()][0] ?? '')
  for (const route of ['subscribe', 'override', 'phone_override', 'unsubscribe', 'register', 'extend'] as const) {
    const before = meta.requests.length
    meta.fail(route, faults.dropBefore)
    const err = await thrownBy(calls[route](graph))
    t.match(err, { code: 'META_UNAVAILABLE' })
    t.match(graphErrorDetails(err), { sent: true })
    t.equal(meta.requests.length, before + 1, route)
  }
})
