import { once } from 'node:events'
import type { Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import Fastify from 'fastify'
import t from '../run/tap.js'
import whatsappTenantConfig from '../../src/app.js'
import { countConnections, send } from '../fixtures/pipeline.js'
import { baseEnv, connect, until, untilWaiting } from '../helper.js'
import { client, config } from '../routes/client.js'
import { accountUpdate, accountUpdateUrl, APP_SECRET, sign } from './deliveries.js'

const { app, as, call, databaseUrl } = await client(t, { FB_APP_ID: '42', FB_APP_SECRET: APP_SECRET })
const origin = await app.listen({ port: 0, host: '127.0.0.1' })

// Well-formed but wrong: any client can send one, so the service must read the body.
const SIGNATURE = `x-hub-signature-256: sha256=${'0'.repeat(64)}\r\n`
const CHUNKED = `${SIGNATURE}transfer-encoding: chunked\r\n`

/** Sends the head and the first part of the body of a delivery, on a new connection. */
async function startDelivery (headers: string, body = '', at = origin): Promise<Socket> {
  return await send(t, at, `POST ${accountUpdateUrl} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${headers}\r\n${body}`)
}

/** Sends the rest of a request; resolves with the response once the connection has ended. */
async function sendMore (socket: Socket, bytes: string): Promise<string> {
  socket.write(bytes)
  return await text(socket)
}

/** Sends a complete, signed delivery. */
const deliver = async (body = '{}') =>
  (await call({}, 'POST', accountUpdateUrl, body, { 'x-hub-signature-256': sign(body, APP_SECRET) })).is

await t.test('a delivery without a well-formed signature is refused before its body is read', async (t) => {
  const hex = '0123456789abcdef'.repeat(4)
  for (const headers of [
    '', 'x-hub-signature-256:\r\n', `x-hub-signature: sha1=${hex.slice(24)}\r\n`,
    ...[
      hex, `sha1=${hex}`, `SHA256=${hex}`, `sha256=${hex.toUpperCase()}`, `sha256=${hex.slice(1)}`, `sha256=${hex}0`,
      `sha256=${hex.slice(1)}g`, `sha256= ${hex}`, `sha256=${hex},`
    ]
      .map((value) => `x-hub-signature-256: ${value}\r\n`),
    `x-hub-signature-256: sha256=${hex}\r\n`.repeat(2)
  ]) {
    const socket = await startDelivery(`${headers}content-length: ${3 * 1024 * 1024}\r\n`)
    t.match(await text(socket), /^HTTP\/1\.1 401 [^]*"code":"SIGNATURE_INVALID"/, headers)
  }
})

await t.test('at most 8 deliveries are read concurrently, and each way to end one frees its place', async (t) => {
  const incomplete: Socket[] = []
  /** Starts an incomplete delivery; resolves once the service reads it. */
  async function startIncomplete (headers = CHUNKED, body = '1\r\n{\r\n'): Promise<Socket> {
    const received = once(app.server, 'request')
    const socket = await startDelivery(headers, body)
    await received
    incomplete.push(socket)
    return socket
  }
  for (let count = 0; count < 8; count++) {
    t.equal(await deliver(), '200', `while ${count} are read`)
    await startIncomplete()
  }
  t.match(
    await text(await startDelivery(`${SIGNATURE}content-length: 9\r\n`)),
    /^HTTP\/1\.1 503 [^]*retry-after: 5\r\n[^]*"code":"OVERLOADED"/
  )
  t.match(await text(await startDelivery('content-length: 9\r\n')), /^HTTP\/1\.1 401 /, 'without a signature')
  t.equal((await call(as('acme'), 'POST', config, { waba_id: 'waba-1' })).is, '201', 'other routes accept requests')

  const ends: Record<string, (socket: Socket) => Promise<string>> = {
    'the client disconnects': async (socket) => { socket.destroy(); return '' },
    'the client ends its side: 400': async (socket) => await text(socket.end()),
    'a body that is whole and not signed: 401': async (socket) => await sendMore(socket, '0\r\n\r\n'),
    'a body that is too long: 413': async (socket) => await sendMore(socket, `400000\r\n${'x'.repeat(0x400000)}`),
    'a body that is no HTTP: 400': async (socket) => await sendMore(socket, 'ZZ\r\n')
  }
  for (const [name, end] of Object.entries(ends)) {
    t.equal(await deliver(), '503 OVERLOADED')
    const [socket] = incomplete.splice(0, 1)
    t.match(socket && await end(socket), /\d{3}$/.exec(name)?.[0] ?? '', name)
    await until(async () => await deliver() === '200')
    await startIncomplete()
  }

  const stalled = incomplete.pop()
  stalled?.destroy()
  await until(async () => await deliver() === '200')
  const other = await connect(t, databaseUrl)
  await other.query('begin; select from tenant_configs for update')
  const removal = JSON.stringify(accountUpdate('ACCOUNT_DELETED', { waba: 'waba-1', time: null }))
  const waiting = await startIncomplete(
    `x-hub-signature-256: ${sign(removal, APP_SECRET)}\r\ncontent-length: ${removal.length}\r\n`,
    removal
  )
  await untilWaiting(databaseUrl, 1)
  waiting.destroy()
  t.equal(await deliver(), '503 OVERLOADED', 'a delivery that is being stored keeps its place')
  await other.query('rollback')
  await until(async () => await deliver() === '200')
  incomplete.pop()

  await startIncomplete()
  t.equal(await deliver(), '503 OVERLOADED')
  // The default of half a minute is too long for a test.
  Object.assign(app.server, { requestTimeout: 100, headersTimeout: 100 })
  for (const socket of incomplete) t.match(await text(socket), /^HTTP\/1\.1 408 /)
  await until(async () => await deliver() === '200')
})

await t.test('a client that disconnects before its body is read frees its place', async (t) => {
  const host = Fastify()
  t.teardown(async () => await host.close())
  let arrived = 0
  let isSlow = true
  host.addHook('preParsing', async () => {
    arrived++
    await until(() => !isSlow)
  })
  await host.register(
    whatsappTenantConfig,
    { env: { ...baseEnv, DATABASE_URL: databaseUrl, FB_APP_ID: '42', FB_APP_SECRET: APP_SECRET } }
  )
  const at = await host.listen({ port: 0, host: '127.0.0.1' })
  const sockets = await Promise.all(
    Array.from({ length: 8 }, async () => await startDelivery(CHUNKED, '1\r\n{\r\n', at))
  )
  await until(() => arrived === 8)
  for (const socket of sockets) socket.destroy()
  await until(async () => await countConnections(host) === 0)
  isSlow = false
  const { statusCode } = await host.inject({
    method: 'POST',
    url: accountUpdateUrl,
    payload: '{}',
    headers: { 'x-hub-signature-256': sign('{}', APP_SECRET) }
  })
  t.equal(statusCode, 200)
})
