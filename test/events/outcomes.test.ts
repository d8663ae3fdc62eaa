import { createServer } from 'node:net'
import t from '../run/tap.js'
import { createPoster } from '../../src/events/post.js'
import { buildTestApp, queries, until } from '../helper.js'
import {
  deliverer, makeAllDue, putEvent, receiver, sampleEvent, secret, status, waiting
} from './event-receiver.js'

const { app, databaseUrl } = await buildTestApp(t)
const sql = queries(t, databaseUrl)
const ended = async () => await sql(
  'select id, type, tenant_id, "from", "to", reason, state, attempts, last_status from events_ended order by at'
)

t.afterEach(async () => { await sql('truncate events_outbox, events_ended') })

await t.test('a delivered event moves to the ended ones with all its values', async (t) => {
  const { url } = await receiver(t, status(202))
  const { run } = deliverer(app.database, url)
  const id = await putEvent(databaseUrl, 'acme', 'x')
  await run(async () => (await waiting(databaseUrl)).length === 0)
  t.strictSame(await ended(), [{
    id,
    type: 'token.revoked',
    tenant_id: 'acme',
    from: 'ok',
    to: 'revoked',
    reason: 'x',
    state: 'delivered',
    attempts: 1,
    last_status: 202
  }])
})

await t.test('410 ends an event, and the later events of its tenant are delivered at once', async (t) => {
  const { url, reasons } = await receiver(t, (res, { reason }) => res.writeHead(reason === 'a1' ? 410 : 200).end())
  const { lines, run } = deliverer(app.database, url)
  for (const [reason, age] of [['a1', '3 s'], ['a2', '2 s'], ['a3', '1 s']] as const) {
    await putEvent(databaseUrl, 'acme', reason, age)
  }
  await run(async () => (await waiting(databaseUrl)).length === 0)
  t.strictSame(reasons(), ['a1', 'a2', 'a3'])
  t.match(await ended(), [
    { reason: 'a1', state: 'ended', attempts: 1, last_status: 410 },
    { reason: 'a2', state: 'delivered' },
    { reason: 'a3', state: 'delivered' }
  ])
  t.match(lines[0], { level: 'error', message: 'an event is given up', attempts: 1, status: 410 })
})

await t.test('a refused event is sent five times; other failures do not count', async (t) => {
  const { url, received, answer } = await receiver(t)
  const { lines, run } = deliverer(app.database, url)
  await putEvent(databaseUrl, 'acme', 'first', '1 s')
  await putEvent(databaseUrl, 'acme', 'next')
  for (const code of [503, 301, 404, 429, 404, 503, 401, 404]) {
    t.equal((await ended()).length, 0)
    await makeAllDue(databaseUrl)
    answer((res, { reason }) => res.writeHead(reason === 'first' ? code : 200, { location: url }).end())
    const before = lines.length
    await run(() => lines.length > before)
    t.equal(received.at(-1)?.event.reason === 'next' || lines.at(-1)?.['status'] === code, true)
    const [row] = await sql("select last_status from events_outbox where reason = 'first'")
    t.equal(row?.['last_status'] ?? code, code)
  }
  await run(async () => (await waiting(databaseUrl)).length === 0)
  t.match(await ended(), [
    { reason: 'first', state: 'ended', attempts: 8, last_status: 404 }, { reason: 'next', state: 'delivered' }
  ])
  t.equal(received.length, 9, 'no redirect is followed')
})

await t.test('retry-after sets the next attempt, also of the later events of the tenant', async (t) => {
  const { url } = await receiver(t, (res) => res.writeHead(429, { 'retry-after': '7200' }).end())
  const { lines, run } = deliverer(app.database, url)
  await putEvent(databaseUrl, 'acme', 'first', '1 s')
  await putEvent(databaseUrl, 'acme', 'next')
  await run(() => lines.length > 0)
  const rows = await waiting(databaseUrl)
  t.match(rows, [{ attempts: 1 }, { attempts: 0 }])
  for (const { wait } of rows) t.ok(wait > 7100 && wait <= 7200, String(wait))
})

await t.test('an event that is redelivered during its last attempt is not given up', async (t) => {
  const { url } = await receiver(t, async (res) => {
    await app.events.redeliver(id)
    res.writeHead(410).end()
  })
  const { lines, run } = deliverer(app.database, url)
  const id = await putEvent(databaseUrl, 'acme', 'x')
  await run(() => lines.length > 0)
  t.match(lines[0], { level: 'warn', message: 'an event could not be delivered yet', status: 410 })
  t.match(await waiting(databaseUrl), [{ id }])
  t.strictSame(await ended(), [])
})

await t.test('an event that is redelivered during its delivery ends once', async (t) => {
  const { url } = await receiver(t, async (res) => {
    await app.events.redeliver(id)
    res.writeHead(200).end()
  })
  const { lines, run } = deliverer(app.database, url)
  const id = await putEvent(databaseUrl, 'acme', 'x')
  await run(() => lines.length > 0)
  t.match(await ended(), [{ id, state: 'delivered', last_status: 200 }])
  t.strictSame(await waiting(databaseUrl), [])
})

await t.test('an answer that switches protocols is no answer', async (t) => {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    const head = ['HTTP/1.1 101 Switching Protocols', 'connection: upgrade', 'upgrade: x', '', '']
    socket.on('data', () => socket.write(head.join('\r\n')))
  })
  server.listen(0, '127.0.0.1')
  t.teardown(() => { server.close() })
  await until(() => server.listening)
  const address = server.address()
  const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : address}/`
  const post = createPoster({ url, secrets: secret, allowsPrivate: true })
  t.strictSame(await post(sampleEvent, new AbortController().signal), { status: null, reason: 'closed' })
})
