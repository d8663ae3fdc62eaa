import { randomBytes } from 'node:crypto'
import { mock } from 'node:test'
import t from '../run/tap.js'
import { connect, query } from '../helper.js'
import { createAuditRetention } from '../../src/audit/retention.js'
import { obtainAuditKey } from '../../src/audit/audit-key.sql.js'
import { auditService, entry } from './audit-service.js'

const REFUSED = { code: '42501' }

await t.test('nobody changes or deletes a record, a superuser included', async (t) => {
  const { databaseUrl, sql, giveTo, recordsOf, writeOld } = await auditService(t)
  await writeOld('acme', 9)
  await sql("insert into audit_checkpoints values ('other', 1, 'x', 'y')")
  const tryAll = async (who: string) => {
    for (const role of ['origin', 'replica']) {
      const client = await connect(t, databaseUrl)
      await client.query(`set session_replication_role = ${role}`)
      for (const statement of [
        "update audit_log set actor = 'x'", "update audit_log set actor = 'x' where false", 'delete from audit_log',
        'truncate audit_log', 'truncate audit_log, audit_checkpoints cascade', 'delete from audit_checkpoints',
        'update audit_checkpoints set seq = 5', 'truncate audit_checkpoints',
        "insert into audit_log select * from audit_log on conflict (tenant_id, seq) do update set actor = 'x'",
        "insert into audit_checkpoints values ('other', 2, 'x', 'y') on conflict (tenant_id) do update set seq = 2",
        'with gone as (delete from audit_log returning 1) select * from gone'
      ]) await t.rejects(client.query(statement), REFUSED, `${who}, ${role}: ${statement}`)
    }
  }
  await giveTo('current_user')
  await tryAll('the owner')
  await t.rejects(sql("select audit_cut('acme', 1, hmac, 'x') from audit_log"), REFUSED, 'the owner cannot cut either')
  await giveTo('tenant_config_audit')
  await tryAll('a superuser that does not own the tables')
  t.equal((await recordsOf('acme')).length, 1)
})

await t.test('a role with all rights on the tables changes nothing, and may not cut', async (t) => {
  const { databaseUrl, recordsOf, writeOld } = await auditService(t)
  await writeOld('acme', 9)
  const role = `wtc_test_${randomBytes(8).toString('hex')}`
  const client = await connect(t, databaseUrl)
  await client.query(`create role ${role}; grant all on all tables in schema public to ${role}; set role ${role}`)
  t.teardown(async () => await query(databaseUrl, `drop owned by ${role}; drop role ${role}`))
  for (const statement of [
    'delete from audit_log', 'update audit_log set seq = 2', 'truncate audit_log',
    "select audit_cut('acme', 1, hmac, 'x') from audit_log"
  ]) await t.rejects(client.query(statement), REFUSED, statement)
  t.equal((await recordsOf('acme')).length, 1)
})

await t.test('the function of another owner cuts what is older than a day, after a record that is there', async (t) => {
  const { sql, recordsOf, writeOld, verify } = await auditService(t)
  await writeOld('acme', 9, 8, 7, 0.5)
  const cut = async (upTo: number, hmac?: string) => (await sql(
    "select audit_cut('acme', $1, coalesce($2, (select hmac from audit_log where seq = $1)), 'signature') as is_cut",
    [upTo, hmac]
  ))[0]?.['is_cut']
  t.equal(await cut(4), false, 'a record of the last day')
  t.equal(await cut(5, 'x'), false, 'a record that is not there')
  t.equal(await cut(2, 'x'), false, 'a record with another HMAC')
  t.equal((await recordsOf('acme')).length, 4)
  t.equal(await cut(2), true)
  t.equal(await cut(2, 'x'), false, 'it is gone')
  t.same((await recordsOf('acme')).map(({ seq }) => seq), [3, 4])
  t.same((await verify()).broken, ['acme 2 forged'], 'the signature of a checkpoint counts')
})

await t.test('what AUDIT_RETENTION_DAYS does not keep is cut off at a signed checkpoint', async (t) => {
  const service = await auditService(t)
  const { app, sql, giveTo, recordsOf, writeOld, verify, heads, tamper, log } = service
  const { database, vault } = app
  await writeOld('acme', 40, 30, 9, 1)
  await writeOld('all', 50, 49)
  await writeOld('none', 5, 4)
  await writeOld('skewed', 1, 50, 0)
  await writeOld('', 100, 1)
  await writeOld('broken', 60, 59, 58)
  await writeOld('many', ...Array<number>(1500).fill(20))
  const noted = await heads()
  await tamper("update audit_log set actor = 'x' where tenant_id = 'broken' and seq = 2")
  const run = async (days = 10) => {
    const key = await obtainAuditKey(database, vault)
    const retention = createAuditRetention({ database, key, days, closing: app.closing, log: app.log })
    retention.start()
    await retention.stop()
  }
  await giveTo('current_user')
  await run()
  t.equal((await recordsOf('acme')).length, 4)
  t.match(log(), /AUDIT_RETENTION_DAYS: the audit log could not be cut/, 'without an owner of its own nothing is cut')
  await giveTo('tenant_config_audit')
  await run()
  const left = async () => Object.fromEntries((await sql(
    'select tenant_id, array_agg(seq::int order by seq) as seqs from audit_log group by 1'
  )).map(({ tenant_id: id, seqs }) => [id, seqs]))
  const kept = { '': [2], acme: [3, 4], broken: [1, 2, 3], none: [1, 2], skewed: [1, 2, 3] }
  t.strictSame(await left(), kept)
  t.match(log(), /"tenant_id":"broken","seq":2,"msg":"an audit chain does not verify, and is not cut"/)
  t.same((await verify({ noted })).broken, ['broken 2 tampered'])

  // Other instances do not know yet that the chain was cut.
  for (const tenant of ['acme', 'all', 'many', '']) await app.audit.record(entry(tenant))
  await run()
  t.strictSame(await left(), { ...kept, '': [2, 3], acme: [3, 4, 5], all: [3], many: [1501] })
  t.same((await verify({ noted })).broken, ['broken 2 tampered'])
  t.same((await verify({ noted: await heads() })).broken, ['broken 2 tampered'])
  await run(5)
  t.same((await left())['acme'], [4, 5], 'a later cut moves the checkpoint')
  t.same((await verify({ noted })).broken, ['broken 2 tampered'])

  await tamper("delete from audit_checkpoints where tenant_id = 'acme'")
  t.same((await verify({ tenantId: 'acme' })).broken, ['acme 1 missing'])
  await sql("insert into audit_checkpoints select 'acme', seq, hmac, signature from audit_checkpoints " +
    "where tenant_id = 'all'")
  t.same((await verify({ tenantId: 'acme' })).broken, ['acme 2 forged'], 'the checkpoint of another chain')
})

await t.test('a record follows the checkpoint when others wrote the chain, and it was cut since', async (t) => {
  const { app, recordsOf, verify, writeOld } = await auditService(t, { AUDIT_RETENTION_DAYS: 10 })
  mock.timers.enable({ apis: ['Date'], now: Date.now() - 30 * 86_400_000 })
  await app.audit.record(entry('acme')).finally(() => { mock.timers.reset() })
  await writeOld('acme', 20, 19)
  const other = await auditService(t, { DATABASE_URL: app.env.DATABASE_URL, AUDIT_RETENTION_DAYS: 10 })
  await other.app.close()
  t.same(await recordsOf('acme'), [])
  await app.audit.record(entry('acme'))
  t.same((await recordsOf('acme')).map(({ seq }) => seq), [4])
  t.same((await verify()).broken, [])
})

await t.test('the service cuts by itself', async (t) => {
  const { databaseUrl, recordsOf, writeOld } = await auditService(t)
  await writeOld('acme', 9, 1)
  const other = await auditService(t, { DATABASE_URL: databaseUrl, AUDIT_RETENTION_DAYS: 5 })
  await other.app.close()
  t.same((await recordsOf('acme')).map(({ seq }) => seq), [2])
})
