import t from '../run/tap.js'
import { buildTestApp, connect, untilWaiting } from '../helper.js'
import { auditService, entry } from './audit-service.js'

const { app, databaseUrl, sql, recordsOf, verify, writer, log } = await auditService(t, { DATABASE_POOL_MAX: 4 })
const { audit, database } = app
const seqsOf = async (tenantId: string) => (await recordsOf(tenantId)).map(({ seq }) => seq)
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

await t.test('a record is stored as given, at its time', async (t) => {
  const began = Date.now()
  await audit.record(entry('stored', { fields: [], actor: null, address: null, code: 'CONFIG_NOT_FOUND' }))
  await audit.record(entry('stored', { fields: ['b', 'a,"{}\\', ''], actor: 'müller 😀', role: 'admin' }))
  const { tenant_id, ...given } = entry('stored')
  t.strictSame(await recordsOf('stored'), [
    { seq: 1, ...given, count: 1, fields: [], actor: null, address: null, code: 'CONFIG_NOT_FOUND' },
    { seq: 2, ...given, count: 1, fields: ['b', 'a,"{}\\', ''], actor: 'müller 😀', role: 'admin' }
  ])
  const [row] = await sql(
    "select min(at) >= $1 and max(at) <= now() as is_now from audit_log where tenant_id = 'stored'",
    [new Date(began)]
  )
  t.equal(row?.['is_now'], true)
  t.same((await verify({ tenantId: 'stored' })).broken, [])
})

await t.test('reads of a service key are recorded with their number', async (t) => {
  await audit.recordKeyReads('key-1', 'read', 1, { address: '203.0.113.7', request_id: 'request-1' })
  await audit.recordKeyReads('key-1', 'read', 2_000_000, null)
  const common = {
    actor: 'key-1', role: 'service_key', action: 'config.resolve', outcome: 'ok', code: null, fields: []
  }
  t.strictSame(await recordsOf('read'), [
    { seq: 1, ...common, count: 1, address: '203.0.113.7', request_id: 'request-1' },
    { seq: 2, ...common, count: 2_000_000, address: null, request_id: null }
  ])
  t.same((await verify({ tenantId: 'read' })).broken, [])
})

await t.test('two instances record hundreds of entries of one tenant at once without a gap', async (t) => {
  const other = await buildTestApp(t, { DATABASE_URL: databaseUrl })
  const all = [audit, other.app.audit].flatMap((one) => upTo(300).map(async (n) => {
    await one.record(entry('busy', { request_id: `busy-${n}` }))
    await one.record(entry(`quiet-${n % 50}`))
  }))
  await Promise.all(all)
  t.same(await seqsOf('busy'), upTo(600))
  const quiet = "select count(*)::int as count from audit_log where tenant_id like 'quiet-%' group by tenant_id"
  t.same(await sql(quiet), Array(50).fill({ count: 12 }))
  t.match(await verify(), { records: 1204, broken: [] })
})

await t.test('records of a chain that wait together are stored by one statement', async (t) => {
  await Promise.all(upTo(201).map(async () => await audit.record(entry('batch'))))
  t.same(await seqsOf('batch'), upTo(201))
  const [row] = await sql("select count(distinct xmin::text)::int as count from audit_log where tenant_id = 'batch'")
  t.equal(row?.['count'], 3)
  t.same((await verify({ tenantId: 'batch' })).broken, [])
})

await t.test('a writer that another one overtook continues the chain', async (t) => {
  const other = await writer()
  for (const one of [audit, other, other, audit, other]) await one.record(entry('overtaken'))
  await Promise.all([other, audit, audit].map(async (one) => await one.record(entry('overtaken'))))
  t.same(await seqsOf('overtaken'), upTo(8))
  t.same((await verify({ tenantId: 'overtaken' })).broken, [])
})

await t.test('in a transaction a record is committed or rolled back with it, and others wait for that', async (t) => {
  await audit.record(entry('atomic'))
  const other = await writer()
  await other.record(entry('atomic'))
  await t.rejects(database.transaction(async (tx) => {
    await audit.record(entry('atomic', { actor: 'undone' }), tx)
    throw new Error('undone')
  }), { message: 'undone' })
  const waiting = await database.transaction(async (tx) => {
    await audit.record(entry('atomic', { actor: 'committed' }), tx)
    await audit.record(entry('atomic', { actor: 'committed' }), tx)
    const recording = other.record(entry('atomic', { actor: 'later' }))
    await untilWaiting(databaseUrl, 1)
    return { recording }
  })
  await waiting.recording
  await audit.record(entry('atomic'))
  t.same((await recordsOf('atomic')).map(({ actor }) => actor),
    ['user-1', 'user-1', 'committed', 'committed', 'later', 'user-1'])
  t.same((await verify({ tenantId: 'atomic' })).broken, [])
})

await t.test('a record that the database refuses is AUDIT_UNAVAILABLE, and is logged', async (t) => {
  await t.rejects(audit.record(entry('refused', { actor: 'nul\0' })), { code: 'AUDIT_UNAVAILABLE', statusCode: 503 })
  t.match(log(), /"audit":\{[^}]*"tenant_id":"refused",[^}]*\},"msg":"an audit record could not be stored"/)
  await audit.record(entry('refused'))
  t.same(await seqsOf('refused'), [1])
})

await t.test('a record that others overtake each time is AUDIT_UNAVAILABLE', async (t) => {
  await sql(`create function refuse() returns trigger language plpgsql as $$ begin return null; end $$;
    create trigger refuse before insert on audit_log for each row when (new.tenant_id = 'late')
    execute function refuse()`)
  await t.rejects(audit.record(entry('late')), { code: 'AUDIT_UNAVAILABLE' })
  await t.rejects(database.transaction(async (tx) => { await audit.record(entry('late'), tx) }),
    { code: 'AUDIT_UNAVAILABLE' })
  await sql('drop trigger refuse on audit_log')
  await audit.record(entry('late'))
  t.same(await seqsOf('late'), [1])
})

await t.test('while the audit log is locked, records fail in time and other statements are served', async (t) => {
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('begin; lock table audit_log')
  const began = performance.now()
  const record = async (tenantId: string) =>
    await audit.record(entry(tenantId)).then(() => 'stored', ({ code }) => code)
  const first = Promise.all(upTo(30).map(async (n) => await record(`locked-${n % 10}`)))
  await untilWaiting(databaseUrl, 1)
  const later = Promise.all(upTo(150).map(async (n) => await record(`later-${n}`)))
  t.equal(await app.tenantConfigs.find('acme'), null, 'three of the four connections are free')
  t.same([...new Set([...await first, ...await later])], ['AUDIT_UNAVAILABLE'])
  const tookMs = performance.now() - began
  t.ok(tookMs > 1000 && tookMs < 4000, `${tookMs} ms`)
  await lockHolder.query('commit')
  await audit.settled()
  const stored = await sql("select from audit_log where tenant_id like 'locked-%' or tenant_id like 'later-%'")
  t.ok(stored.length <= 100, 'of those that are late, only the statement that was under way is stored')
  await audit.record(entry('locked-0'))
  t.same(await seqsOf('locked-0'), [1])
  t.same((await verify()).broken, [])
})
