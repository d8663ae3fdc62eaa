import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify, { type FastifyReply } from 'fastify'
import type { Test } from 'tap'
import t from '../run/tap.js'
import errorHandler from '../../src/http/error-handler.js'
import protocol from '../../src/http/protocol.js'
import { countConnections, get, send, unread } from '../fixtures/pipeline.js'
import { buildTestApp, until } from '../helper.js'

const CLOSE = 'connection: close\r\n'

/** A server with the route /held, whose replies the test sends. */
async function listening (t: Test, options: { unreadTimeoutMs?: number } = {}) {
  let log = ''
  const fastify = Fastify({ logger: { stream: { write: (line: string) => { log += line } } } })
  const pendingReplies: FastifyReply[] = []
  await fastify.register(protocol, options)
  await fastify.register(errorHandler)
  fastify.get('/held', (_request, reply) => { pendingReplies.push(reply) })
  fastify.get('/large', async () => Buffer.alloc(64 * 1024 * 1024))
  fastify.get('/small', async () => 'small')
  fastify.get('/timers', async (_request, reply) => ({ timers: reply.raw.listenerCount('timeout') }))
  const origin = await fastify.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(async () => await fastify.close())
  return { fastify, origin, pendingReplies, log: () => log }
}

/** Sends these bytes on a new connection and returns all that it receives until the server ends it. */
async function exchange (origin: string, bytes: string): Promise<string> {
  return await text(await send(t, origin, bytes))
}

await t.test('100 pipelined requests are answered in order, and 8 are executed concurrently', async (t) => {
  const { origin, pendingReplies } = await listening(t)
  const answers = exchange(origin, get('/held').repeat(99) + get('/held', CLOSE))
  for (let answered = 0; answered < 100; answered++) {
    const most = Math.min(answered + 8, 100)
    await until(() => pendingReplies.length === most)
    t.equal((await fetch(`${origin}/small`)).status, 200)
    t.equal(pendingReplies.length, most)
    pendingReplies[answered]?.send(`answer ${answered}.`)
  }
  const numbers = [...(await answers).matchAll(/answer (\d+)\./g)].map(([, n]) => Number(n))
  t.strictSame(numbers, Array.from({ length: 100 }, (_, n) => n))
})

await t.test('over 100 unanswered requests end the connection, and no waiting request is executed', async (t) => {
  const { fastify, origin, pendingReplies, log } = await listening(t)
  for (const count of [101, 300]) t.equal(await exchange(origin, get('/held').repeat(count)), '')
  await until(async () => await countConnections(fastify) === 0)
  t.equal((await fetch(`${origin}/small`)).status, 200, 'other connections are served')
  t.ok(pendingReplies.length <= 16)
  t.equal(log().split('ended a connection').length - 1, 2, 'each ended connection is logged')

  const executed = pendingReplies.length + 8
  const socket = await unread(t, origin, get('/held').repeat(100))
  await until(() => pendingReplies.length === executed)
  socket.destroy()
  await until(async () => await countConnections(fastify) <= 1)
  t.equal((await fetch(`${origin}/small`)).status, 200)
  t.equal(pendingReplies.length, executed)
})

await t.test('a connection with an unread answer is ended after the timeout', async (t) => {
  const { fastify, origin } = await listening(t, { unreadTimeoutMs: 200 })
  await unread(t, origin, get('/large'))
  await until(async () => await countConnections(fastify) === 1)
  await until(async () => await countConnections(fastify) === 0)
})

await t.test('the time for producing an answer does not count towards the timeout of an unread answer', async (t) => {
  const { origin, pendingReplies } = await listening(t, { unreadTimeoutMs: 50 })
  const answers = exchange(origin, get('/small') + get('/held') + get('/small', CLOSE))
  await until(() => pendingReplies.length === 1)
  await once(pendingReplies[0]?.raw ?? process, 'timeout')
  pendingReplies[0]?.send('held')
  t.match(await answers, /small[^]*held[^]*small/)
})

await t.test('an idle connection stays open for the keep-alive timeout of the server', async (t) => {
  const { fastify, origin } = await listening(t, { unreadTimeoutMs: 50 })
  fastify.server.keepAliveTimeout = 100_000
  const accepted = once(fastify.server, 'connection')
  const socket = await unread(t, origin, get('/small'))
  const [served] = await accepted
  socket.resume()
  await once(socket, 'data')
  await until(() => served.timeout > 50)
  t.ok(served.timeout >= 100_000)
})

await t.test('injected requests are not limited, and set no timers', async (t) => {
  const { fastify } = await listening(t)
  const answers = await Promise.all(
    Array.from({ length: 200 }, async () => (await fastify.inject('/small')).statusCode)
  )
  t.ok(answers.every((status) => status === 200))
  t.strictSame((await fastify.inject('/timers')).json(), { timers: 0 })
})

await t.test('HTTP/1.1 requires exactly one Host header, on known and unknown routes', async (t) => {
  const { app } = await buildTestApp(t)
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  const refused = 'HTTP/1.1 400 Bad Request.*MALFORMED_REQUEST'
  for (const path of ['/health/live', '/nowhere', '/api/v1/tenant/config', '/docs/json']) {
    for (const hosts of [
      '', 'host: a\r\nhost: b\r\n', 'host: a\r\nHOST: a\r\n', `host: a\r\n${'a:\r\n'.repeat(2000)}Host: b\r\n`
    ]) {
      const answer = await exchange(origin, `GET ${path} HTTP/1.1\r\n${CLOSE}${hosts}\r\n`)
      t.match(answer.replaceAll('\r\n', ' '), new RegExp(refused), `${path} ${hosts.slice(0, 20)}`)
      t.match(answer, 'content-type: application/problem+json')
    }
  }
  t.match(await exchange(origin, `GET /health/live HTTP/1.1\r\nhost: \r\n${CLOSE}\r\n`), 'HTTP/1.1 200 OK')
  t.match(await exchange(origin, 'GET /health/live HTTP/1.0\r\n\r\n'), 'HTTP/1.1 200 OK')
})

await t.test('the routes of a host server are not subject to the limits of the service', async (t) => {
  const fastify = Fastify()
  t.teardown(async () => await fastify.close())
  fastify.get('/theirs', async () => 'theirs')
  const pendingReplies: FastifyReply[] = []
  fastify.get('/theirs/held', (_request, reply) => { pendingReplies.push(reply) })
  await fastify.register(async (scope) => {
    await scope.register(protocol, { unreadTimeoutMs: 20 })
    scope.get('/ours', async () => 'ours')
  })
  const origin = await fastify.listen({ port: 0, host: '127.0.0.1' })
  const request = (path: string) => get(path, `host: y\r\n${CLOSE}`)
  t.match(await exchange(origin, request('/theirs')), 'HTTP/1.1 200 OK')
  t.match(await exchange(origin, request('/ours')), 'HTTP/1.1 400 Bad Request')
  t.match(await exchange(origin, get('/theirs').repeat(200) + get('/theirs', CLOSE)), 'HTTP/1.1 200 OK')
  const answers = exchange(origin, get('/ours') + get('/theirs/held', CLOSE))
  await until(() => pendingReplies.length === 1)
  // Longer than the unread timeout of the service.
  await delay(100)
  pendingReplies[0]?.send('theirs, late')
  t.match(await answers, /ours[^]*theirs, late/)
})

await t.test('an error that Node would answer by itself is answered with a problem', async (t) => {
  const { app, log } = await buildTestApp(t)
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  const close = `host: x\r\n${CLOSE}`
  for (const [request, is] of [
    [`GET /health/live HTTP/1.1\r\n${close}expect: a-miracle\r\n\r\n`, '417 EXPECTATION_FAILED'],
    [`GET /nowhere HTTP/1.1\r\n${close}expect: 100-continue, more\r\n\r\n`, '417 EXPECTATION_FAILED'],
    [`CONNECT example.com:443 HTTP/1.1\r\n${close}\r\n`, '404 ROUTE_NOT_FOUND'],
    [`TRACE /health/live HTTP/1.1\r\n${close}\r\n`, '404 ROUTE_NOT_FOUND'],
    [`OPTIONS * HTTP/1.1\r\n${close}\r\n`, '404 ROUTE_NOT_FOUND'],
    [
      `POST /health/live HTTP/1.1\r\n${close}transfer-encoding: chunked\r\n\r\n1;${'x'.repeat(20_000)}\r\n`,
      '400 MALFORMED_REQUEST'
    ],
    ['GET / HTTP/9.9\r\n\r\n', '400 MALFORMED_REQUEST'],
    ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', '400 MALFORMED_REQUEST']
  ] as const) {
    const answer = await exchange(origin, request)
    const [, status, body = '{}'] = /^HTTP\/1\.1 (\d+) [^]*?\r\n\r\n([^]*)$/.exec(
      answer.replace('HTTP/1.1 100 Continue\r\n\r\n', '')
    ) ?? []
    const { code, request_id: id } = JSON.parse(body)
    t.equal(`${status} ${code}`, is, request.slice(0, 30))
    t.match(answer, 'content-type: application/problem+json')
    t.match(log(), id)
  }
  t.match(
    await exchange(origin, `GET /health/live HTTP/1.1\r\n${close}upgrade: websocket\r\n\r\n`),
    'HTTP/1.1 200 OK',
    'an upgrade is ignored'
  )
  t.match(
    await exchange(origin, `GET /health/live HTTP/1.1\r\n${close}expect: 100-Continue\r\n\r\n`),
    /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK/
  )
})

await t.test('a client that is still sending receives the answer, and may reuse its connection', async (t) => {
  const { app } = await buildTestApp(t)
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  const broken: unknown[] = []
  /** Sends the beginning of a request, and continues to send after the answer. */
  async function answered (head: string): Promise<{ socket: Socket, answer: string }> {
    const socket = connect({ port: Number(new URL(origin).port), host: '127.0.0.1', allowHalfOpen: true })
    t.teardown(() => { socket.destroy() })
    socket.on('error', (err) => { broken.push(err) })
    const answer = once(socket, 'data')
    socket.write(`${head}${'x'.repeat(20_000)}`)
    const [first] = await answer
    // A write to a reset connection fails, but perhaps only the second one.
    for (let more = 0; more < 10; more++) {
      await new Promise((resolve) => socket.write('x'.repeat(8000), resolve))
      await delay(10)
    }
    return { socket, answer: String(first) }
  }

  const unreadable = await answered('GET /health/live HTTP/1.1\r\nhost: x\r\nx: ')
  t.match(unreadable.answer, 'HTTP/1.1 431 ')
  t.same(broken, [])
  await until(async () => await countConnections(app) === 0)

  const token = app.auth.mint({ tenantId: 'acme' }, 60)
  const { socket, answer } = await answered(
    `PUT /api/v1/tenant/config HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ncontent-length: 100000\r\n\r\n`
  )
  t.match(answer, 'HTTP/1.1 413 ')
  const next = once(socket, 'data')
  socket.write(get('/health/live', CLOSE))
  t.match(String(await next), 'HTTP/1.1 200 OK', 'the connection is reused')
  t.same(broken, [])
})
