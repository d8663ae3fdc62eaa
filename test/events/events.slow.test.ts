import t from '../run/tap.js'
import { serverProcess } from '../fixtures/server-process.js'
import { baseEnv, buildTestApp, connect, createDatabase, JWT_SECRET, query, until, untilWaiting } from '../helper.js'
import { deliverer, makeAllDue, putEvent, receiver, secret, signatureOf, status, waiting } from './event-receiver.js'

// Several tests wait for the next poll or for a time limit.
t.setTimeout(300_000)

await t.test('an event is signed over its bytes and deleted after its delivery', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const { env, received } = await receiver(t)
  const tenants = ['acme', 'müller & söhne', '租户/一', '😀\u{10ffff}', ' "\\ ']
  const ids = await Promise.all(tenants.map(async (tenant) => await putEvent(DATABASE_URL, tenant, 'canary-reason')))
  const { log } = await buildTestApp(t, { DATABASE_URL, ...env })
  await until(async () => (await waiting(DATABASE_URL)).length === 0)
  t.same(new Set(received.map(({ event }) => event.tenant_id)), new Set(tenants), 'the first poll follows the start')
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

  const late = await putEvent(DATABASE_URL, 'late', null)
  await until(async () => (await waiting(DATABASE_URL)).length === 0)
  t.match(
    received.slice(tenants.length),
    [{ event: { id: late, reason: null } }],
    'a later event is delivered by a later poll'
  )
  await until(() => log().includes(late))
  t.match(
    log().split('\n').find((line) => line.includes(late)),
    '"type":"token.revoked","attempts":1,"status":204,"msg":"an event was delivered"'
  )
  for (const word of [secret, 'canary-reason', 'müller', '/events']) t.notMatch(log(), word)
})

await t.test('the outbox is not polled while EVENTS_WEBHOOK_URL is unset', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const lockHolder = await connect(t, DATABASE_URL)
  await lockHolder.query('begin; lock table events_outbox in access exclusive mode')
  // A poll would block on the lock with the only connection.
  const { app } = await buildTestApp(t, { DATABASE_URL, DATABASE_POOL_MAX: 1, EVENTS_WEBHOOK_SECRET: secret })
  t.equal((await app.inject('/health/ready')).statusCode, 200)
  await untilWaiting(DATABASE_URL, 0)
  await buildTestApp(t, { DATABASE_URL, ...(await receiver(t)).env })
  await untilWaiting(DATABASE_URL, 1)
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
  ] as const) await putEvent(databaseUrl, tenant, reason, age)
  await run(async () => (await waiting(databaseUrl)).length === 3)
  t.same(reasons().sort(), ['a1', 'b1'])
  const [first, ...others] = await waiting(databaseUrl)
  t.match([first, ...others], [
    { reason: 'a1', attempts: 1 }, { reason: 'a2', attempts: 0 }, { reason: 'a3', attempts: 0 }
  ])
  for (const { wait } of others) {
    t.ok(Math.abs(wait - Number(first?.wait)) < 0.1, 'the later events wait as long as the failed one')
  }

  answer(status(200))
  await putEvent(databaseUrl, 'a', 'a4')
  await putEvent(databaseUrl, 'b', 'b2')
  await run(async () => (await waiting(databaseUrl)).length === 4)
  t.same(reasons().slice(2), ['b2'], 'a new event waits for the older events of its tenant')
  await makeAllDue(databaseUrl)
  await run(async () => (await waiting(databaseUrl)).length === 0)
  t.same(reasons().slice(3), ['a1', 'a2', 'a3', 'a4'])
})

await t.test('two instances deliver each of 200 events once', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const pendingAnswers: (() => void)[] = []
  // One instance never has 40 deliveries in flight, so both instances take part.
  const { env, received, reasons } = await receiver(t, (res) => {
    pendingAnswers.push(() => res.writeHead(200).end())
    if (received.length >= 40) for (const send of pendingAnswers.splice(0)) send()
  })
  const services = [await buildTestApp(t, { DATABASE_URL, ...env }), await buildTestApp(t, { DATABASE_URL, ...env })]
  await query(DATABASE_URL, `insert into events_outbox (type, tenant_id, "from", "to", reason)
    select 'token.expired', 't' || n, 'ok', 'expired', n from generate_series(1, 200) n`)
  await until(async () => (await waiting(DATABASE_URL)).length === 0)
  t.equal(received.length, 200)
  t.equal(new Set(reasons()).size, 200)
  for (const { log } of services) t.match(log(), 'an event was delivered')
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
  await putEvent(databaseUrl, 'acme', 'x')
  await run(() => lines.length > 0)
  const [row] = await waiting(databaseUrl)
  t.match(row, { attempts: 2 })
  t.ok(Number(row?.wait) > 20)
})

await t.test('an event is delivered again if the process dies before it deletes the event', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const lockHolder = await connect(t, DATABASE_URL)
  const { env, received, answer } = await receiver(t, async (res) => {
    await lockHolder.query('begin; select from events_outbox for update')
    res.writeHead(200).end()
  })
  const id = await putEvent(DATABASE_URL, 'acme', 'x')
  const service = await serverProcess(t, {
    DATABASE_URL, JWT_SECRET, ENCRYPTION_KEYS: baseEnv.ENCRYPTION_KEYS, ...env
  })
  await untilWaiting(DATABASE_URL, 1)
  await service.end('SIGKILL')
  // The backend of the killed process would delete the row, so the lock stays until its time limit.
  await untilWaiting(DATABASE_URL, 0)
  await lockHolder.query('rollback')
  const [row] = await waiting(DATABASE_URL)
  t.match(row, { id, attempts: 1 })
  t.ok(Number(row?.wait) > 10, 'the event is due again when its lease ends')

  answer(status(200))
  await makeAllDue(DATABASE_URL)
  await buildTestApp(t, { DATABASE_URL, ...env })
  await until(async () => (await waiting(DATABASE_URL)).length === 0)
  t.strictSame(received.map(({ event }) => event.id), [id, id])
})

await t.test('a closing service waits for running deliveries, but less than 6 seconds', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const pendingAnswers: (() => void)[] = []
  const { env, received, answer, reasons } = await receiver(t, (res) => {
    pendingAnswers.push(() => res.writeHead(200).end())
  })
  await putEvent(DATABASE_URL, 'acme', 'a1', '1 s')
  await putEvent(DATABASE_URL, 'acme', 'a2')
  const { app } = await buildTestApp(t, { DATABASE_URL, ...env })
  await until(() => pendingAnswers.length === 1)
  const closed = app.close()
  for (const send of pendingAnswers) send()
  await closed
  t.match(
    await waiting(DATABASE_URL),
    [{ reason: 'a2', attempts: 0 }],
    'the first event is delivered, the second delivery is not started'
  )

  answer(() => {})
  const { app: other, log } = await buildTestApp(t, { DATABASE_URL, ...env })
  await until(() => received.length === 2)
  const began = performance.now()
  await other.close()
  t.ok(performance.now() - began < 6000)
  t.match(await waiting(DATABASE_URL), [{ reason: 'a2', attempts: 1 }], 'an aborted delivery keeps its event')
  t.match(log(), '"status":null,"reason":"ABORT_ERR","msg":"an event could not be delivered yet"')
  t.same(reasons(), ['a1', 'a2'])
})
