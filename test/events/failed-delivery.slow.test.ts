import { createConnection, createServer, type Socket } from 'node:net'
import pg from 'pg'
import t from '../run/tap.js'
import { createPooledDatabase } from '../../src/database/pool/pool.js'
import { buildTestApp, createDatabase, query } from '../helper.js'
import { deliverer, makeAllDue, putEvent, receiver, status, waiting } from './event-receiver.js'

// Several tests wait for the next poll or for a time limit.
t.setTimeout(300_000)

await t.test('a failed delivery is retried with a growing delay until the event is 7 days old', async (t) => {
  const { app, databaseUrl } = await buildTestApp(t)
  const { url, received, answer, reasons } = await receiver(t, status(500))
  const { lines, run } = deliverer(app.database, url)
  const id = await putEvent(databaseUrl, 'acme', 'revoked', '7 days -1 minute')
  for (const [attempts, least, most] of [
    [1, 5, 10], [2, 10, 20], [3, 20, 40], [9, 1280, 2560], [10, 1800, 3600], [200, 1800, 3600]
  ] as const) {
    await query(databaseUrl, 'update events_outbox set next_attempt_at = now(), attempts = $1', [attempts - 1])
    const before = lines.length
    await run(() => lines.length > before)
    t.match(
      lines.slice(before),
      [
        {
          level: 'warn',
          message: 'an event could not be delivered yet',
          id,
          type: 'token.revoked',
          attempts,
          status: 500
        }
      ]
    )
    const [row] = await waiting(databaseUrl)
    t.match(row, { id, attempts })
    t.ok(Number(row?.wait) > least - 2 && Number(row?.wait) <= most, `${row?.wait} s after attempt ${attempts}`)
  }
  t.strictSame(new Set(received.map(({ event }) => event.id)), new Set([id]), 'each attempt has the same id')
  answer(status(201))
  await makeAllDue(databaseUrl)
  await run(async () => (await waiting(databaseUrl)).length === 0)
  t.match(lines.at(-1), { level: 'info', id, attempts: 201, status: 201 })

  const stale = await putEvent(databaseUrl, 'acme', 'stale', '7 days 1 minute')
  await putEvent(databaseUrl, 'acme', 'next')
  answer((res, { reason }) => res.writeHead(reason === 'stale' ? 404 : 200).end())
  await run(async () => (await waiting(databaseUrl)).length === 0)
  t.match(
    lines.filter(({ level }) => level === 'error'),
    [
      {
        message: 'an event is given up',
        id: stale,
        type: 'token.revoked',
        attempts: 1,
        status: 404
      }
    ]
  )
  t.same(reasons().slice(-2), ['stale', 'next'], 'an abandoned event does not delay the next one')
})

await t.test('a redirect, error, reset or timeout fails a delivery; a body after a 200 is ignored', async (t) => {
  const { app, databaseUrl } = await buildTestApp(t)
  const page = '<!doctype html><title>canary-page</title>'
  const { url, received, answer } = await receiver(t)
  const { lines, run } = deliverer(app.database, url)
  for (const [what, misbehave, logged] of [
    ['redirects', (res) => res.writeHead(307, { location: url }).end(), { level: 'warn', status: 307 }],
    [
      'answers HTML and 500',
      (res) => res.writeHead(500, { 'content-type': 'text/html' }).end(page),
      { level: 'warn', status: 500 }
    ],
    ['resets', (res) => res.socket?.resetAndDestroy(), { level: 'warn', reason: 'ECONNRESET' }],
    ['hangs', () => {}, { level: 'warn', reason: 'ETIMEDOUT' }],
    [
      'never ends its page',
      (res) => res.writeHead(200, { 'content-type': 'text/html' }).write(page),
      { level: 'info', status: 200 }
    ],
    [
      'resets after its answer',
      (res) => res.writeHead(200, { 'content-length': 9 }).write('x', () => res.socket?.resetAndDestroy()),
      { level: 'info', status: 200 }
    ]
  ] satisfies [string, Parameters<typeof answer>[0], object][]) {
    await putEvent(databaseUrl, 'acme', what)
    answer(misbehave)
    const [before, requests] = [lines.length, received.length]
    await run(() => lines.length > before)
    t.match(lines.slice(before), [logged], what)
    t.equal(received.length, requests + 1, 'the receiver gets one request')
    t.notMatch(JSON.stringify(lines), 'canary-page')
    await query(databaseUrl, 'truncate events_outbox')
  }

  await putEvent(databaseUrl, 'acme', 'refused')
  const { lines: refused, run: runRefused } = deliverer(app.database, 'http://127.0.0.1:1/events')
  await runRefused(() => refused.length > 0)
  t.match(refused, [{ level: 'warn', status: null, reason: 'ECONNREFUSED', attempts: 1 }])
  t.match(await waiting(databaseUrl), [{ reason: 'refused', attempts: 1 }])
})

await t.test('a database outage is logged once, and the delivery continues after it', async (t) => {
  const databaseUrl = await createDatabase(t)
  const through = new URL(databaseUrl)
  const [port, host] = [Number(through.port), through.hostname]
  const sockets = new Set<Socket>()
  let [isOpen, connections] = [false, 0]
  const cut = () => {
    isOpen = false
    for (const socket of sockets) socket.destroy()
  }
  const proxy = createServer((near) => {
    connections++
    near.on('error', () => {})
    if (!isOpen) return near.destroy()
    const far = createConnection(port, host)
    for (const socket of [near, far]) sockets.add(socket.on('error', () => {}))
    near.pipe(far).pipe(near)
  })
  await new Promise<void>((resolve) => { proxy.listen(0, '127.0.0.1', resolve) })
  const address = proxy.address()
  through.port = String(typeof address === 'object' ? address?.port : address)
  const pool = new pg.Pool({ connectionString: through.href, options: '-c timezone=UTC' }).on('error', () => {})
  t.teardown(async () => { await pool.end(); cut(); proxy.close() })

  const { url, reasons, answer } = await receiver(t, (res) => { cut(); res.writeHead(200).end() })
  await putEvent(databaseUrl, 'acme', 'x')
  const { lines, run } = deliverer(createPooledDatabase(pool, { timeoutMs: 1600 }), url)
  const unavailable = {
    level: 'warn',
    message: 'the outbox of events cannot be read or written',
    err: { code: 'DATABASE_UNAVAILABLE' }
  }
  await run(async () => {
    if (connections >= 2) isOpen = true
    return reasons().length === 1 && lines.length === 2
  })
  t.match(lines, [unavailable, unavailable], 'one line before the delivery, one when it cannot be recorded')
  isOpen = true
  answer(status(200))
  await makeAllDue(databaseUrl)
  await run(async () => (await waiting(databaseUrl)).length === 0)
  t.same(reasons(), ['x', 'x'], 'an event whose delivery is not recorded is delivered again')
  t.match(lines.slice(2), [{ level: 'info', attempts: 2 }])
})
