import t from '../run/tap.js'
import { buildTestApp, connect, untilWaiting } from '../helper.js'
import { auditService, entry } from './audit-service.js'

const { app, databaseUrl, sql, verify, writer } = await auditService(t, { DATABASE_POOL_MAX: 4 })
const { audit, database } = app
// Another process, with the connections of the default.
const { app: { audit: other } } = await buildTestApp(t, { DATABASE_URL: databaseUrl })
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

/** The numbers of records, and of transactions that stored them, in the chains with this prefix. */
const storedIn = async (prefix: string) => (await sql(
  'select count(*)::int as records, count(distinct xmin::text)::int as transactions from audit_log ' +
    "where tenant_id like $1 || '%'",
  [prefix]
))[0]

/** Whether a promise is settled; asked after something else was stored. */
function watch (promise: Promise<void>) {
  const watched = { isSettled: false, promise }
  const settle = () => { watched.isSettled = true }
  promise.then(settle, settle)
  return watched
}

await t.test('records of several chains that wait share a statement, up to a hundred', async (t) => {
  await Promise.all(upTo(250).map(async (n) => await audit.record(entry(`many-${n}`))))
  t.same(await storedIn('many-'), { records: 250, transactions: 3 })
  await Promise.all(upTo(120).map(async (n) => await audit.record(entry(`many-${n % 40}`))))
  t.same(await storedIn('many-'), { records: 370, transactions: 5 }, 'with known heads too')
  t.same((await verify()).broken, [])
})

await t.test('a head that another writer moved is read again, for all chains of the statement at once', async (t) => {
  const ids = upTo(50).map((n) => `moved-${n}`)
  for (const one of [audit, other, audit, other]) {
    await Promise.all(ids.map(async (id) => await one.record(entry(id))))
  }
  t.same(await storedIn('moved-'), { records: 200, transactions: 4 })
  t.same((await verify()).broken, [])
})

await t.test('the stream gets each record of a shared statement with the HMAC before it', async (t) => {
  const streamed = await writer({ isStreamed: true })
  for (let round = 0; round < 2; round++) {
    await Promise.all(upTo(30).map(async (n) => await streamed.record(entry(`streamed-${n % 10}`))))
  }
  t.same(await storedIn('streamed-'), { records: 60, transactions: 2 })
  const [row] = await sql(`
    with linked as (
      select tenant_id, seq, lag(hmac, 1, '') over (partition by tenant_id order by seq) as previous_hmac
      from audit_log where tenant_id like 'streamed-%'
    )
    select count(*)::int as queued, bool_and(isrising) as in_order from (
      select seq > lag(seq, 1, 0) over (partition by tenant_id order by id) as isrising
      from audit_outbox join linked using (tenant_id, seq, previous_hmac)
    ) entry`)
  t.same(row, { queued: 60, in_order: true })
})

await t.test('a chain with a record that the database refuses is not stored; the others are', async (t) => {
  const outcomes = await Promise.allSettled([
    audit.record(entry('refused-a')),
    audit.record(entry('refused-b')),
    audit.record(entry('refused-b', { actor: 'nul\0' })),
    audit.record(entry('refused-c'))
  ])
  t.same(outcomes.map(({ status }) => status), ['fulfilled', 'rejected', 'rejected', 'fulfilled'])
  t.same(await sql("select tenant_id from audit_log where tenant_id like 'refused-%' order by 1"),
    [{ tenant_id: 'refused-a' }, { tenant_id: 'refused-c' }])
  await audit.record(entry('refused-b'))
  t.same((await verify()).broken, [])
})

await t.test('a transaction that blocks its chain holds up no other one, in any process', async (t) => {
  const both = [audit, other]
  const free = upTo(5).map((n) => `free-${n}`)
  const recordFree = async () => {
    for (const one of both) await Promise.all(free.map(async (id) => await one.record(entry(id))))
  }
  await recordFree()
  const blocked = await database.transaction(async (tx) => {
    await audit.record(entry('blocked'), tx)
    const waiting = both.map((one) => watch(one.record(entry('blocked'))))
    await recordFree()
    await untilWaiting(databaseUrl, 2)
    await recordFree()
    t.notOk(waiting.some(({ isSettled }) => isSettled))
    return waiting
  })
  await Promise.all(blocked.map(async ({ promise }) => await promise))
  t.match(await storedIn('blocked'), { records: 3 })
  t.match(await storedIn('free-'), { records: 30 })
  t.same((await verify()).broken, [])
})

await t.test('records of more chains than may wait at once fail in time, and are not stored later', async (t) => {
  const ids = ['late-1', 'late-2', 'late-3']
  const blocker = await connect(t, databaseUrl)
  await blocker.query(`begin; select pg_advisory_xact_lock(hashtextextended('whatsapp-tenant-config audit ' || id, 0))
    from unnest(array['${ids.join("', '")}']) as id`)
  const began = performance.now()
  const recordings = Promise.all(ids.map(async (id) =>
    await audit.record(entry(id)).then(() => 'stored', ({ code }) => code)))
  await untilWaiting(databaseUrl, 1)
  await audit.record(entry('free-1'))
  t.same(await recordings, Array(3).fill('AUDIT_UNAVAILABLE'))
  t.ok(performance.now() - began < 4000)
  await audit.settled()
  await blocker.query('commit')
  t.match(await storedIn('late-'), { records: 0 })
  await Promise.all(ids.map(async (id) => await audit.record(entry(id))))
  t.match(await storedIn('late-'), { records: 3 })
})

await t.test('writers of the same chains in opposite order neither deadlock nor starve', async (t) => {
  const { app: { audit: third } } = await buildTestApp(t, { DATABASE_URL: databaseUrl })
  const ids = upTo(12).map((n) => `shared-${n}`)
  const inOrder = async (one: typeof audit, order: string[]) => {
    for (let round = 0; round < 15; round++) await Promise.all(order.map(async (id) => await one.record(entry(id))))
  }
  await Promise.all([inOrder(other, ids), inOrder(third, ids.toReversed())])
  t.match(await storedIn('shared-'), { records: 360 })
  t.same((await verify()).broken, [])
  const deadlocks = 'select deadlocks::int from pg_stat_database where datname = current_database()'
  t.same(await sql(deadlocks), [{ deadlocks: 0 }])
})

await t.test('thousands of records that waited for the database are stored in time', async (t) => {
  const ids = upTo(1000).map((n) => `outage-${n}`)
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('begin; lock table audit_log')
  const recordings = Promise.all([...ids, ...ids].map(async (id) => await other.record(entry(id))))
  await untilWaiting(databaseUrl, 2)
  await lockHolder.query('commit')
  await recordings
  t.match(await storedIn('outage-'), { records: 2000 })
  t.same((await verify()).broken, [])
})
