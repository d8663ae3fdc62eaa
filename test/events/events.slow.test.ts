import { createConnection, createServer, type Socket } from 'node:net'
import pg from 'pg'
import t from '../run/tap.js'
import { createPooledDatabase } from '../../src/database/pool.js'
import { serverProcess } from '../fixtures/server-process.js'
import { buildTestApp, connect, createDatabase, JWT_SECRET, newKey, query, until, untilWaiting } from '../helper.js'
import { deliverer, hurry, put, receiver, secret, signatureOf, status, waiting } from './event-receiver.js'

// Several tests wait for the next poll or for a time limit.
t.setTimeout(300_000)

await t.test('an event is signed over its bytes and deleted after its delivery', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const { env, received } = await receiver(t)
  const tenants = ['acme', 'müller & söhne', '租户/一', '😀\u{10ffff}', ' "\\ ']
  const ids = await Promise.all(tenants.map(async (tenant) => await put(DATABASE_URL, tenant, 'canary-reason')))
  const { log } = await buildTestApp(t, { DATABASE_URL, ...env })
  await until(async () => (await waiting(DATABASE_URL)).length === 0)
  t.same(
    new Set(received.map(({ event }) => event.tenant_id)),
    new Set(tenants),
    'the first look is right after the start'
  )
  for (const { event, body, headers } of received) {
    t.strictSame([headers['x-signature-256'], headers['content-type']], [signatureOf(body), 'application/json'])
    t.strictSame(Object.keys(event), ['id', 'type', 'tenant_id', 'from', 'to', 'reason', 'at'])
    t.match(event, {
      id: ids[tenants.indexOf(String(event.tenant_id))],
      type: 'token.revoked',
      from: 'ok',
      to: 'revoked',
      reason: 'canary-reason',
      at: /^\d{4}-\d\d-\d\dT[\d:.]+Z$/
    })
  }

  const late = await put(DATABASE_URL, 'late', null)
  await until(async () => (await waiting(DATABASE_URL)).length === 0)
  t.match(received.slice(tenants.length), [{ event: { id: late, reason: null } }], 'it goes on looking')
  await until(() => log().includes(late))
  t.match(
    log().split('\n').find((line) => line.includes(late)),
    '"type":"token.revoked","attempts":1,"status":204,"msg":"an event was delivered"'
  )
  for (const word of [secret, 'canary-reason', 'müller', '/events']) t.notMatch(log(), word)
})

await t.test('the outbox is not polled while EVENTS_WEBHOOK_URL is unset', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const holder = await connect(t, DATABASE_URL)
  await holder.query('begin; lock table events_outbox in access exclusive mode')
  // A poll would block on the lock with the only connection.
  const { app } = await buildTestApp(t, { DATABASE_URL, DATABASE_POOL_MAX: 1, EVENTS_WEBHOOK_SECRET: secret })
  t.equal((await app.inject('/health/ready')).statusCode, 200)
  await untilWaiting(DATABASE_URL, 0)
  await buildTestApp(t, { DATABASE_URL, ...(await receiver(t)).env })
  await untilWaiting(DATABASE_URL, 1)
})

await t.test('a failed delivery is retried with a growing delay until the event is 7 days old', async (t) => {
  const { app, databaseUrl } = await buildTestApp(t)
  const { url, received, answer, reasons } = await receiver(t, status(500))
  const { lines, run } = deliverer(app.database, url)
  const id = await put(databaseUrl, 'acme', 'revoked', '7 days -1 minute')
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
  t.strictSame(new Set(received.map(({ event }) => event.id)), new Set([id]), 'it keeps its id')
  answer(status(201))
  await hurry(databaseUrl)
  await run(async () => (await waiting(databaseUrl)).length === 0)
  t.match(lines.at(-1), { level: 'info', id, attempts: 201, status: 201 })

  const stale = await put(databaseUrl, 'acme', 'stale', '7 days 1 minute')
  await put(databaseUrl, 'acme', 'next')
  answer((res, { reason }) => res.writeHead(reason === 'stale' ? 404 : 200).end())
  await run(async () => (await waiting(databaseUrl)).length === 0)
  t.match(
    lines.filter(({ level }) => level === 'error'),
    [
      {
        message: 'an event could not be delivered for 7 days and is given up',
        id: stale,
        type: 'token.revoked',
        attempts: 1,
        status: 404
      }
    ]
  )
  t.same(reasons().slice(-2), ['stale', 'next'], 'what was given up holds nothing back')
})

await t.test('the events of a tenant are delivered in order; a failed one delays the later ones', async (t) => {
  const { app, databaseUrl } = await buildTestApp(t)
  const { url, answer, reasons } = await receiver(
    t,
    (res, { reason }) => res.writeHead(reason === 'a1' ? 500 : 200).end()
  )
  const { run } = deliverer(app.database, url)
  for (const [tenant, reason, age] of [
    ['a', 'a3', '1 s'], ['a', 'a1', '3 s'], ['b', 'b1', '2 s'], ['a', 'a2', '2 s']
  ] as const) await put(databaseUrl, tenant, reason, age)
  await run(async () => (await waiting(databaseUrl)).length === 3)
  t.same(reasons().sort(), ['a1', 'b1'])
  const [first, ...others] = await waiting(databaseUrl)
  t.match([first, ...others], [
    { reason: 'a1', attempts: 1 }, { reason: 'a2', attempts: 0 }, { reason: 'a3', attempts: 0 }
  ])
  for (const { wait } of others) t.ok(Math.abs(wait - Number(first?.wait)) < 0.1, 'the later ones wait as long')

  answer(status(200))
  await put(databaseUrl, 'a', 'a4')
  await put(databaseUrl, 'b', 'b2')
  await run(async () => (await waiting(databaseUrl)).length === 4)
  t.same(reasons().slice(2), ['b2'], 'a new event waits for the old ones too')
  await hurry(databaseUrl)
  await run(async () => (await waiting(databaseUrl)).length === 0)
  t.same(reasons().slice(3), ['a1', 'a2', 'a3', 'a4'])
})

await t.test('two instances deliver each of 200 events once', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const held: (() => void)[] = []
  // One instance never has 40 deliveries in flight, so both instances take part.
  const { env, received, reasons } = await receiver(t, (res) => {
    held.push(() => res.writeHead(200).end())
    if (received.length >= 40) for (const release of held.splice(0)) release()
  })
  const services = [await buildTestApp(t, { DATABASE_URL, ...env }), await buildTestApp(t, { DATABASE_URL, ...env })]
  await query(DATABASE_URL, `insert into events_outbox (type, tenant_id, "from", "to", reason)
    select 'token.expired', 't' || n, 'ok', 'expired', n from generate_series(1, 200) n`)
  await until(async () => (await waiting(DATABASE_URL)).length === 0)
  t.equal(received.length, 200)
  t.equal(new Set(reasons()).size, 200)
  for (const { log } of services) t.match(log(), 'an event was delivered')
})

await t.test('a redirect, error, reset or timeout fails a delivery; a body after a 200 is ignored', async (t) => {
  const { app, databaseUrl } = await buildTestApp(t)
  const page = '<!doctype html><title>canary-page</title>'
  const { url, received, answer } = await receiver(t)
  const { lines, run } = deliverer(app.database, url)
  for (const [what, misbehave, seen] of [
    ['redirects', (res) => res.writeHead(307, { location: url }).end(), { level: 'warn', status: 307 }],
    [
      'answers HTML and 500',
      (res) => res.writeHead(500, { 'content-type': 'text/html' }).end(page),
      { level: 'warn', status: 500 }
    ],
    ['resets', (res) => res.socket?.resetAndDestroy(), { level: 'warn', reason: /^(ECONNRESET|UND_ERR_SOCKET)$/ }],
    ['hangs', () => {}, { level: 'warn', reason: 'TimeoutError' }],
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
    await put(databaseUrl, 'acme', what)
    answer(misbehave)
    const [before, requests] = [lines.length, received.length]
    await run(() => lines.length > before)
    t.match(lines.slice(before), [seen], what)
    t.equal(received.length, requests + 1, 'it is asked once')
    t.notMatch(JSON.stringify(lines), 'canary-page')
    await query(databaseUrl, 'truncate events_outbox')
  }

  await put(databaseUrl, 'acme', 'refused')
  const { lines: refused, run: runRefused } = deliverer(app.database, 'http://127.0.0.1:1/events')
  await runRefused(() => refused.length > 0)
  t.match(refused, [{ level: 'warn', status: undefined, attempts: 1 }])
  t.match(await waiting(databaseUrl), [{ reason: 'refused', attempts: 1 }])
})

await t.test('a delivery that ends after its claim does not change the claim of another process', async (t) => {
  const { app, databaseUrl } = await buildTestApp(t)
  const { url } = await receiver(t, async (res) => {
    await query(
      databaseUrl,
      "update events_outbox set attempts = attempts + 1, next_attempt_at = now() + interval '25 s'"
    )
    res.writeHead(500).end()
  })
  const { lines, run } = deliverer(app.database, url)
  await put(databaseUrl, 'acme', 'x')
  await run(() => lines.length > 0)
  const [row] = await waiting(databaseUrl)
  t.match(row, { attempts: 2 })
  t.ok(Number(row?.wait) > 20)
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
  await put(databaseUrl, 'acme', 'x')
  const { lines, run } = deliverer(createPooledDatabase(pool), url)
  const away = {
    level: 'warn',
    message: 'the outbox of events cannot be read or written',
    err: { code: 'DATABASE_UNAVAILABLE' }
  }
  await run(async () => {
    if (connections >= 2) isOpen = true
    return reasons().length === 1 && lines.length === 2
  })
  t.match(lines, [away, away], 'once before it was delivered, once when that could not be noted')
  isOpen = true
  answer(status(200))
  await hurry(databaseUrl)
  await run(async () => (await waiting(databaseUrl)).length === 0)
  t.same(reasons(), ['x', 'x'], 'what was not noted is delivered again')
  t.match(lines.slice(2), [{ level: 'info', attempts: 2 }])
})

await t.test('an event is delivered again if the process dies before it deletes the event', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const holder = await connect(t, DATABASE_URL)
  const { env, received, answer } = await receiver(t, async (res) => {
    await holder.query('begin; select from events_outbox for update')
    res.writeHead(200).end()
  })
  const id = await put(DATABASE_URL, 'acme', 'x')
  const service = await serverProcess(t, { DATABASE_URL, JWT_SECRET, ENCRYPTION_KEYS: `k1:${newKey()}`, ...env })
  await untilWaiting(DATABASE_URL, 1)
  await service.end('SIGKILL')
  // The backend of the killed process would delete the row, so the lock stays until its time limit.
  await untilWaiting(DATABASE_URL, 0)
  await holder.query('rollback')
  const [row] = await waiting(DATABASE_URL)
  t.match(row, { id, attempts: 1 })
  t.ok(Number(row?.wait) > 10, 'it is due again by itself when its lease ends')

  answer(status(200))
  await hurry(DATABASE_URL)
  await buildTestApp(t, { DATABASE_URL, ...env })
  await until(async () => (await waiting(DATABASE_URL)).length === 0)
  t.strictSame(received.map(({ event }) => event.id), [id, id])
})

await t.test('a closing service waits for running deliveries, but less than 6 seconds', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const held: (() => void)[] = []
  const { env, received, answer, reasons } = await receiver(t, (res) => { held.push(() => res.writeHead(200).end()) })
  await put(DATABASE_URL, 'acme', 'a1', '1 s')
  await put(DATABASE_URL, 'acme', 'a2')
  const { app } = await buildTestApp(t, { DATABASE_URL, ...env })
  await until(() => held.length === 1)
  const closed = app.close()
  for (const release of held) release()
  await closed
  t.match(await waiting(DATABASE_URL), [{ reason: 'a2', attempts: 0 }], 'the one is delivered, the other not begun')

  answer(() => {})
  const { app: other, log } = await buildTestApp(t, { DATABASE_URL, ...env })
  await until(() => received.length === 2)
  const began = performance.now()
  await other.close()
  t.ok(performance.now() - began < 6000)
  t.match(await waiting(DATABASE_URL), [{ reason: 'a2', attempts: 1 }], 'broken off, and kept')
  t.match(log(), '"reason":"AbortError","msg":"an event could not be delivered yet"')
  t.same(reasons(), ['a1', 'a2'])
})
