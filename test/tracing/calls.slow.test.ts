import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { context, propagation, SpanKind, trace } from '@opentelemetry/api'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { createPoster } from '../../src/events/post.js'
import { inSpan } from '../../src/tracing/span.js'
import { receiver, sampleEvent, secret, status } from '../events/event-receiver.js'
import { app, refused, meta, standIn, token } from '../meta/wire.js'
import { attributesOf, loadSdk, spanOf, spans } from './sdk.js'

// The SDK is that of the whole process, hence a process of its own.
loadSdk()

/** Runs work in a span; returns the id of its trace. */
async function traced (work: () => Promise<unknown>): Promise<string> {
  return await trace.getTracer('test').startActiveSpan('test', async (span) => {
    await work()
    span.end()
    return span.spanContext().traceId
  })
}

/** The function that adds a header to the request of a message on the channel. */
function headerAdder (message: unknown): (name: string, value: string) => void {
  const request: unknown = typeof message === 'object' && message !== null && 'request' in message && message.request
  if (typeof request !== 'object' || request === null || !('addHeader' in request)) throw new Error('no request')
  const { addHeader } = request
  if (typeof addHeader !== 'function') throw new Error('no function')
  return (name, value) => { addHeader.call(request, name, value) }
}

/** Adds trace headers to each request of `fetch`, as the instrumentation of undici does. */
function instrumentFetch (t: Test): { requests: number } {
  const seen = { requests: 0 }
  const inject = (message: unknown) => {
    const headers: Record<string, string> = {}
    propagation.inject(context.active(), headers)
    seen.requests++
    for (const [name, value] of Object.entries(headers)) headerAdder(message)(name, value)
  }
  subscribe('undici:request:create', inject)
  t.teardown(() => { unsubscribe('undici:request:create', inject) })
  return seen
}

await t.test('a call of the Graph API has a span, and Meta gets no trace', async (t) => {
  const { graph, meta: { requests, state } } = await standIn(t)
  const customer = state.issueToken({ app_id: app.id })
  const call = async () => { await graph.inspectToken(app, customer) }
  const traceId = await traced(call)
  const span = spanOf(traceId, 'meta debug_token')
  t.equal(span.kind, SpanKind.CLIENT)
  t.strictSame(attributesOf(span), {
    'http.request.method': 'GET', 'server.address': '127.0.0.1', 'http.response.status_code': 200
  })

  const instrumented = instrumentFetch(t)
  await traced(call)
  t.equal(instrumented.requests, 1, 'also where fetch is instrumented')
  const sent = requests.flatMap(({ headers }) => Object.keys(headers))
  t.equal(requests.length, 2)
  t.strictSame(sent.filter((name) => /^(traceparent|tracestate|baggage)$/.test(name)), [])
})

await t.test('a failed call has the code of its error', async (t) => {
  const { graph } = await meta(t, refused(400, 190, 463))
  const traceId = await traced(async () => { await t.rejects(graph.listPhoneNumbers(app, token, '1')) })
  t.strictSame(attributesOf(spanOf(traceId, 'meta phone_numbers')), {
    'http.request.method': 'GET',
    'server.address': '127.0.0.1',
    'http.response.status_code': 400,
    'error.type': 'META_TOKEN_INVALID'
  })
})

await t.test('the delivery of an event has a span, which its receiver gets', async (t) => {
  const { url, received } = await receiver(t)
  const post = createPoster({ url, secrets: secret, allowsPrivate: true })
  const carried = propagation.setBaggage(context.active(), propagation.createBaggage({ tenant: { value: 'acme' } }))
  const traceId = await context.with(carried, async () => await traced(async () => {
    t.match(await post(sampleEvent, new AbortController().signal), { status: 204 })
  }))
  const span = spanOf(traceId, 'deliver event')
  t.equal(span.kind, SpanKind.CLIENT)
  t.strictSame(attributesOf(span), {
    'http.request.method': 'POST', 'server.address': '127.0.0.1', 'http.response.status_code': 204
  })
  const [{ headers = {} } = {}] = received
  t.equal(headers['traceparent'], `00-${traceId}-${span.spanContext().spanId}-01`)
  t.equal(headers['baggage'], undefined)
  t.match(headers, { 'content-type': 'application/json', 'webhook-id': sampleEvent.id })
})

await t.test('a delivery without an answer has the reason', async (t) => {
  const refusing = createPoster({ url: 'http://127.0.0.1:9/?for=us', secrets: secret, allowsPrivate: true })
  const traceId = await traced(async () => await refusing(sampleEvent, new AbortController().signal))
  t.match(attributesOf(spanOf(traceId, 'deliver event')), { 'error.type': 'ECONNREFUSED' })
  const { url } = await receiver(t, status(503))
  const answered = createPoster({ url, secrets: secret, allowsPrivate: true })
  const other = await traced(async () => await answered(sampleEvent, new AbortController().signal))
  t.match(attributesOf(spanOf(other, 'deliver event')), { 'http.response.status_code': 503 })
})

await t.test('the type of an error is its code, else its class', async (t) => {
  for (const [expected, thrown] of [
    ['EPIPE', Object.assign(new Error('a value'), { code: 'EPIPE' })],
    ['TypeError', new TypeError('a value')],
    ['Error', Object.assign(new Error('a value'), { code: 7 })],
    ['string', 'a value']
  ] as const) {
    const attributes = () => ({})
    const traceId = await traced(async () => {
      await inSpan('failing', { kind: SpanKind.INTERNAL, attributes }, async () => { throw thrown })
        .then(() => { t.fail('it did not throw') }, (err: unknown) => { t.equal(err, thrown) })
    })
    t.strictSame(attributesOf(spanOf(traceId, 'failing')), { 'error.type': expected })
  }
})

await t.test('no span holds a secret, a tenant id or a query string', async (t) => {
  const all = JSON.stringify(spans().map(({ name, attributes, events, status }) =>
    ({ name, attributes, events, status })))
  for (const text of [app.secret, token, sampleEvent.tenant_id, secret, '?', 'a value', 'Meta quotes']) {
    t.notOk(all.includes(text), text)
  }
})
