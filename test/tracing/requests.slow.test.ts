import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import t from '../run/tap.js'
import { buildTestApp, connect, query, until, untilWaiting } from '../helper.js'
import { attributesOf, callerTrace, loadSdk, spanOf, spans } from './sdk.js'

// The SDK is that of the whole process, hence a process of its own.
loadSdk()

const CONFIG = '/api/v1/tenant/config'
const TENANT = 'a-tenant-that-no-attribute-names'
const TOKEN = 'EAAG-a-token-that-no-attribute-holds'

const { app, as, admin, databaseUrl } = await buildTestApp(t)
const statement = (operation: string, name = operation) => ({
  'db.system.name': 'postgresql',
  'db.operation.name': operation,
  'db.query.summary': name,
  'server.address': new URL(databaseUrl).hostname,
  'server.port': Number(new URL(databaseUrl).port)
})

await t.test('a request has a span in the trace of its caller, and its statements have theirs in it', async (t) => {
  const { traceId, spanId, headers } = callerTrace()
  const url = `${CONFIG}?limit=${TENANT}`
  await app.inject({ url: CONFIG, headers: { ...as(TENANT), ...headers } })
  const request = spanOf(traceId, `GET ${CONFIG}`)
  t.match(request, { kind: SpanKind.SERVER, parentSpanContext: { spanId }, status: { code: SpanStatusCode.UNSET } })
  t.strictSame(attributesOf(request), {
    'http.request.method': 'GET', 'http.route': CONFIG, 'http.response.status_code': 404
  })
  const found = spanOf(traceId, 'tenant_config_find')
  t.match(found, { kind: SpanKind.CLIENT, parentSpanContext: { spanId: request.spanContext().spanId } })
  t.strictSame(attributesOf(found), statement('select', 'tenant_config_find'))

  const refused = callerTrace()
  await app.inject({ url, headers: { ...as(TENANT), ...refused.headers } })
  t.match(attributesOf(spanOf(refused.traceId, `GET ${CONFIG}`)), { 'http.response.status_code': 400 })
})

await t.test('the statements after a body has been read are in the span of their request', async (t) => {
  const { traceId, headers } = callerTrace()
  const payload = { access_token: TOKEN, waba_id: '1' }
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  const { status } = await fetch(origin + CONFIG, {
    method: 'POST',
    headers: { ...as(TENANT), ...headers, 'content-type': 'application/json' },
    body: JSON.stringify(payload)
  })
  t.equal(status, 201)
  await until(() => spans().some(({ name }) => name === `POST ${CONFIG}`))
  const { spanId } = spanOf(traceId, `POST ${CONFIG}`).spanContext()
  t.match(spanOf(traceId, 'tenant_config_insert'), { parentSpanContext: { spanId } })
})

await t.test('a transaction has a span for each of its statements, without their values', async (t) => {
  const { traceId, headers } = callerTrace()
  const url = `/api/v1/tenant/admin/configs/delete-tenant/${TENANT}`
  t.equal((await app.inject({ method: 'DELETE', url, headers: { ...admin, ...headers } })).statusCode, 204)
  t.strictSame(attributesOf(spanOf(traceId, 'commit')), statement('commit'))
  const inTrace = spans().filter((span) => span.spanContext().traceId === traceId).map(({ name }) => name)
  t.ok(inTrace.includes('DELETE /api/v1/tenant/admin/configs/delete-tenant/:id'), inTrace.join())
})

await t.test('a failed statement and a failed request have the type of their error', async (t) => {
  await query(databaseUrl, "insert into tenant_configs (tenant_id, access_token) values ('unreadable', 'not sealed')")
  const failed = callerTrace()
  await app.inject({ url: CONFIG, headers: { ...as('unreadable'), ...failed.headers } })
  const request = spanOf(failed.traceId, `GET ${CONFIG}`)
  t.equal(request.status.code, SpanStatusCode.ERROR)
  t.match(attributesOf(request), { 'http.response.status_code': 500, 'error.type': '500' })

  const canceled = callerTrace()
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('begin; lock table tenant_configs')
  await app.inject({ url: CONFIG, headers: { ...as(TENANT), ...canceled.headers } })
  await lockHolder.query('rollback')
  const found = spanOf(canceled.traceId, 'tenant_config_find')
  t.strictSame(found.status, { code: SpanStatusCode.ERROR })
  t.equal(attributesOf(found)['error.type'], '57014', 'the SQLSTATE of a canceled statement')
  t.strictSame(found.events, [], 'no message and no stack')
})

await t.test('the span of an unknown route has no route', async (t) => {
  const { traceId, headers } = callerTrace()
  await app.inject({ method: 'PATCH', url: `/${TENANT}`, headers })
  t.strictSame(attributesOf(spanOf(traceId, 'PATCH')), {
    'http.request.method': 'PATCH', 'http.response.status_code': 404
  })
})

await t.test('a request whose client leaves ends its span', async (t) => {
  const { traceId, headers } = callerTrace()
  const origin = new URL(app.listeningOrigin)
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('begin; lock table tenant_configs')
  const client = connectTcp(Number(origin.port), origin.hostname)
  await once(client, 'connect')
  client.write([
    `GET ${CONFIG} HTTP/1.1`, 'host: a', `authorization: ${as(TENANT).authorization}`,
    `traceparent: ${headers.traceparent}`, '', ''
  ].join('\r\n'))
  await untilWaiting(databaseUrl, 1)
  client.destroy()
  const count = () => spans().filter((span) => span.spanContext().traceId === traceId).length
  await until(() => count() === 1)
  await lockHolder.query('rollback')
  await until(() => count() === 2)
  t.equal(attributesOf(spanOf(traceId, `GET ${CONFIG}`))['error.type'], 'aborted')
})

await t.test('a trace that its caller does not sample has no span', async (t) => {
  const { traceId, headers } = callerTrace({ sampled: false })
  const before = spans().length
  await app.inject({ url: CONFIG, headers: { ...as(TENANT), ...headers } })
  await app.inject({ method: 'PUT', url: CONFIG, headers: { ...as(TENANT), ...headers }, payload: { waba_id: '2' } })
  t.strictSame(spans().slice(before), [], traceId)
})

await t.test('in the span of an instrumented server, the request is inside', async (t) => {
  const { headers } = callerTrace()
  await trace.getTracer('instrumentation').startActiveSpan('outer', async (outer) => {
    await app.inject({ url: '/health/live', headers })
    outer.end()
    const { traceId, spanId } = outer.spanContext()
    t.match(spanOf(traceId, 'GET /health/live'), { kind: SpanKind.INTERNAL, parentSpanContext: { spanId } })
  })
})

await t.test('the baggage of a request is not taken over', async (t) => {
  await app.tenantConfigs.create(TENANT, null, { waba_id: '1' })
  const { headers } = callerTrace()
  const seen: unknown[] = []
  t.teardown(app.tenantConfigs.onChange(() => { seen.push(propagation.getBaggage(context.active())) }))
  await app.inject({
    method: 'PUT',
    url: CONFIG,
    headers: { ...as(TENANT), ...headers, baggage: `tenant=${TENANT}` },
    payload: { waba_id: '3' }
  })
  t.strictSame(seen, [undefined])
})

await t.test('no span holds a tenant id, a token or a query string', async (t) => {
  const all = JSON.stringify(spans().map(({ name, attributes, events, status, links }) =>
    ({ name, attributes, events, status, links })))
  t.ok(spans().length > 20)
  for (const secret of [TENANT, TOKEN, 'unreadable', '?', as(TENANT).authorization.slice(7, 20)]) {
    t.notOk(all.includes(secret), secret)
  }
})
