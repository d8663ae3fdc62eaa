import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify from 'fastify'
import t from '../run/tap.js'
import { MetaPhoneChoiceRequired, MetaRegisterRefused, type ErrorClass } from '../../src/errors.js'
import { registerAdvice } from '../../src/meta/advice.js'
import errorHandler from '../../src/http/error-handler.js'
import { storeVerified } from '../fixtures/verified-rows.js'
import { client, config, full, onboard } from '../routes/client.js'

const { app, as, call, log, rows, sql } = await client(t)
const tenant = as('acme')
await call(tenant, 'POST', config, full)
const before = await rows()
await app.listen({ port: 0, host: '127.0.0.1' })
const port = Number(new URL(app.listeningOrigin).port)

/** Opens a connection, and sends the head of an authorized request and the given rest. */
async function open (head: string, rest = '') {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.write(
    `${head} HTTP/1.1\r\nhost: x\r\nauthorization: ${tenant.authorization}\r\ncontent-type: application/json\r\n${rest}`
  )
  return socket
}

/** Does the same and returns the first chunk of the answer. */
async function exchange (head: string, rest: string): Promise<string> {
  const socket = await open(head, rest)
  const [chunk] = await once(socket, 'data')
  socket.destroy()
  return String(chunk)
}

await t.test('an internal error shows its code only, in the answer and in the log', async (t) => {
  await sql(`create function boom() returns trigger language plpgsql as $$ begin
    if new.verify_token is null then
      raise exception 'canary % of %', new.waba_id, new.tenant_id using hint = 'canary', errcode = new.waba_id;
    end if;
    return new; end $$`)
  await sql('create trigger boom before update on tenant_configs for each row execute function boom()')
  for (const [sqlstate, is] of [
    ['P0001', '500 INTERNAL'], ['XX000', '500 INTERNAL'], ['42501', '500 INTERNAL'], ['22001', '400 VALIDATION_FAILED'],
    ['57014', '503 DATABASE_UNAVAILABLE']
  ] as const) {
    const answer = await call(tenant, 'PUT', config, { verify_token: null, waba_id: sqlstate })
    t.equal(answer.is, is, sqlstate)
    t.notMatch(JSON.stringify(answer.body), /canary|boom|acme|plpgsql|\bP0001|22001/)
  }
  t.match(log(), /"msg":"answered INTERNAL"/)
  t.notMatch(log(), 'canary')
  await sql('drop function boom() cascade')
  t.same(await rows(), before)
})

await t.test('a foreign trigger that suppresses the insert causes an error', async (t) => {
  await sql('create function keep() returns trigger language plpgsql as $$ begin return null; end $$')
  await sql('create trigger keep before insert on tenant_configs for each row execute function keep()')
  const verified = { waba_id: '1', phone_number_id: '1', access_token: 'x', token_expires_at: null }
  await t.rejects(storeVerified(app, 'kept-back', verified), /no row/)
  await sql('drop function keep() cascade')
})

await t.test('a 503 answer has a retry-after header', async (t) => {
  const { is, headers } = await call(as('nobody'), 'POST', onboard, { code: 'x', waba_id: '1', phone_number_id: '2' })
  t.strictSame([is, headers['retry-after']], ['503 META_APP_NOT_CONFIGURED', '5'])
})

await t.test('only the known additional values of an error are in the answer', async (t) => {
  const server = Fastify()
  t.teardown(() => server.close())
  await server.register(errorHandler)
  let thrown: unknown
  server.get('/', async () => { throw thrown })
  const problem = async (Failure: ErrorClass, more: object) => {
    thrown = Object.assign(new Failure(), more)
    const { detail, phone_numbers } = (await server.inject('/')).json()
    return { detail, phone_numbers }
  }
  const plain = (Failure: ErrorClass) => ({ detail: new Failure().message, phone_numbers: undefined })

  const advice = registerAdvice[133005]
  t.strictSame(await problem(MetaRegisterRefused, { advice }), { detail: advice, phone_numbers: undefined })
  for (const foreign of [
    'canary', `${advice} canary`, '', null, undefined, 133005, [advice], { toString: () => advice }
  ]) {
    t.strictSame(await problem(MetaRegisterRefused, { advice: foreign }), plain(MetaRegisterRefused))
  }

  const numbers = [
    { id: '1', display_phone_number: '+1 631-555-5555', verified_name: null },
    { id: '2', display_phone_number: null, verified_name: 'Lucky Shrub' }
  ]
  const asked = { ...plain(MetaPhoneChoiceRequired), phone_numbers: numbers }
  t.strictSame(await problem(MetaPhoneChoiceRequired, { phone_numbers: numbers }), asked)
  t.strictSame(
    await problem(MetaPhoneChoiceRequired, { phone_numbers: numbers.map((number) => ({ ...number, pin: 'canary' })) }),
    asked
  )
  for (const foreign of ['canary', null, [{ id: 'canary' }], [{ ...numbers[0], id: 1 }], [null], { 0: numbers[0] }]) {
    t.strictSame(await problem(MetaPhoneChoiceRequired, { phone_numbers: foreign }), plain(MetaPhoneChoiceRequired))
  }
})

await t.test('the log contains the request_id and no query string', async (t) => {
  const { body } = await call(tenant, 'GET', `${config}?access_token=canary`)
  t.match(log(), `"reqId":"${String(body.request_id)}"`)
  t.notMatch(log(), /canary|"detail"/)
})

await t.test('a disconnect of the client during the body is not logged as an error', async (t) => {
  const count = (message: string) => log().split(`"msg":"${message}`).length
  const faults = count('answered')
  for (const rest of ['content-length: 200\r\n\r\n{"waba_id":', 'transfer-encoding: chunked\r\n\r\n5\r\n{"wa']) {
    const requests = count('incoming request')
    const accepted = once(app.server, 'connection')
    const socket = await open(`PUT ${config}`, rest)
    while (count('incoming request') === requests) await delay(5)
    const [served] = await accepted
    socket.destroy()
    // `once` would reject with an earlier error of the connection.
    await new Promise(resolve => { served.on('close', resolve) })
    await delay(0)
  }
  t.equal(count('answered'), faults)
  t.same(await rows(), before)
})

await t.test('a request that violates HTTP is answered with a problem and closes its connection', async (t) => {
  for (const [head, rest, status] of [
    [`GET ${config}`, 'expect: something\r\n\r\n', 417],
    [`GET ${config}`, '\r\n', 200],
    [`POST ${config}/activate`, 'expect: 100-continue\r\ncontent-length: 0\r\n\r\n', 100]
  ] as const) t.match(await exchange(head, rest), `HTTP/1.1 ${status} `, `${head.slice(0, 40)} ${rest.slice(0, 40)}`)

  const isProblem = async (head: string, rest: string, is: string) => {
    const [first = '', body = ''] = (await exchange(head, rest)).split('\r\n\r\n')
    const problem: Record<string, unknown> = JSON.parse(body)
    const { status, title, code, request_id: id } = problem
    t.equal(`${String(status)} ${String(code)}`, is, `${head.slice(0, 40)} ${rest.slice(0, 40)}`)
    t.equal(first, [
      `HTTP/1.1 ${String(status)} ${String(title)}`, 'content-type: application/problem+json',
      'cache-control: no-store', `content-length: ${Buffer.byteLength(body)}`, 'connection: close'
    ].join('\r\n'))
    t.match(log(), `"reqId":"${String(id)}"`)
  }
  for (const [head, rest, is] of [
    [`PUT ${config}`, 'transfer-encoding: chunked\r\n\r\nZZ\r\n{}\r\n', '400 MALFORMED_REQUEST'],
    [`PUT ${config}`, 'content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n', '400 MALFORMED_REQUEST'],
    [`PUT ${config}`, 'content-length: 2\r\ncontent-length: 3\r\n\r\n{}', '400 MALFORMED_REQUEST'],
    [`PUT ${config}`, 'content-length: -1\r\n\r\n', '400 MALFORMED_REQUEST'],
    [`GET ${config}/é`, '\r\n', '400 MALFORMED_REQUEST'],
    [`BREWS ${config}`, '\r\n', '400 MALFORMED_REQUEST'],
    [`GET ${config}`, `x: ${'x'.repeat(20_000)}\r\n\r\n`, '431 HEADERS_TOO_LARGE'],
    [`GET /${'x'.repeat(20_000)}`, '\r\n', '431 HEADERS_TOO_LARGE']
  ] as const) await isProblem(head, rest, is)

  const { requestTimeout, headersTimeout } = app.server
  t.strictSame([requestTimeout, headersTimeout], [30_000, 30_000])
  // Shortens the test.
  Object.assign(app.server, { requestTimeout: 100, headersTimeout: 100 })
  const began = performance.now()
  await isProblem(`PUT ${config}`, 'content-length: 200\r\n\r\n{"waba_id":', '408 REQUEST_TIMEOUT')
  t.ok(performance.now() - began < 10_000, 'the answer follows soon after the time limit')
  Object.assign(app.server, { requestTimeout, headersTimeout })

  const both = await open(`GET ${config}`, '\r\nGET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
  let answers = ''
  for await (const chunk of both) answers += String(chunk)
  t.match(
    answers,
    /^HTTP\/1\.1 200 OK[^]*"tenant_id":"acme"[^]*HTTP\/1\.1 200 OK[^]*"status":"ok"/,
    'the second request is answered on the same connection'
  )
})
