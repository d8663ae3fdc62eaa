import { randomBytes } from 'node:crypto'
import t from '../run/tap.js'
import { link } from '../../src/audit/chain.js'
import { obtainAuditKey } from '../../src/audit/audit-key.sql.js'
import { isoFromMs } from '../../src/schemas/timestamps.js'
import { createVault } from '../../src/vault/vault.js'
import { baseEnv, buildTestApp, newKey } from '../helper.js'
import { rotate } from '../vault/rotation/rotated.js'
import { auditService, entry } from './audit-service.js'

const service = await auditService(t)
const { app, databaseUrl, sql, verify, heads, tamper } = service

/** Writes a chain of six records. */
async function writeChain (tenantId: string): Promise<void> {
  for (const n of [1, 2, 3, 4, 5, 6]) await app.audit.record(entry(tenantId, { request_id: `request-${n}` }))
}

const UNREADABLE = { message: /^The key of the audit log does not open/ }
const COLUMNS = 'at, actor, role, action, outcome, code, fields, count, address, request_id, hmac'
const of = (tenantId: string, seq: number) => `tenant_id = '${tenantId}' and seq = ${seq}`
const move = (tenantId: string, from: number, to: number) =>
  `update audit_log set seq = ${to} where ${of(tenantId, from)}`

await t.test('an unchanged log verifies, and an empty one', async (t) => {
  t.match(await verify(), { records: 0, broken: [] })
  await writeChain('untouched')
  await app.audit.record(entry('', { actor: null }))
  t.match(await verify({ noted: await heads() }), { records: 7, broken: [] })
  t.match(await verify({ tenantId: 'untouched' }), { records: 6, broken: [] })
  t.match(await verify({ tenantId: 'nobody' }), { records: 0, broken: [] })
})

await t.test('the first broken link of each chain is found and named', async (t) => {
  const noted = new Map<string, unknown>()
  for (const [kind, seq, ...statements] of [
    ['tampered', 3, (id) => `update audit_log set actor = 'somebody-else' where ${of(id, 3)}`],
    ['tampered', 1, (id) => `update audit_log set fields = '{callback_url,verify_token}' where ${of(id, 1)}`],
    ['tampered', 2, (id) => `update audit_log set fields = '{"callback_url,x"}' where ${of(id, 2)}`],
    ['tampered', 2, (id) => `update audit_log set at = at + interval '1 microsecond' where ${of(id, 2)}`],
    ['tampered', 2, (id) => `update audit_log set code = '' where ${of(id, 2)}`],
    ['tampered', 4, (id) => `update audit_log set address = null where ${of(id, 4)}`],
    ['tampered', 4, (id) => `update audit_log set outcome = 'denied' where ${of(id, 4)}`],
    ['tampered', 5, (id) => `update audit_log set count = 2 where ${of(id, 5)}`],
    ['tampered', 2, (id) => `update audit_log set request_id = 'x' where ${of(id, 2)} or ${of(id, 4)}`],
    ['reordered', 3, (id) => move(id, 3, 30), (id) => move(id, 4, 3), (id) => move(id, 30, 4)],
    ['reordered', 2, (id) => move(id, 2, 30), (id) => move(id, 5, 2), (id) => move(id, 30, 5)],
    ['reordered', 1, (id) => `update audit_log set seq = -seq where tenant_id = '${id}'`,
      (id) => `update audit_log set seq = 7 + seq where tenant_id = '${id}'`],
    ['missing', 3, (id) => `delete from audit_log where ${of(id, 3)}`],
    ['missing', 1, (id) => `delete from audit_log where ${of(id, 1)}`],
    ['missing', 2, (id) => `delete from audit_log where tenant_id = '${id}' and seq between 2 and 5`],
    ['forged', 3, (id) => `delete from audit_log where ${of(id, 3)}`, (id) => move(id, 4, 3), (id) => move(id, 5, 4),
      (id) => move(id, 6, 5)],
    ['forged', 7, (id) => `insert into audit_log select tenant_id, 7, ${COLUMNS} from audit_log where ${of(id, 6)}`],
    ['forged', 6, (id) => `update audit_log set actor = 'x' where ${of(id, 6)}`],
    ['forged', 4, (id) => `update audit_log set hmac = 'x' where ${of(id, 4)}`],
    ['forged', 4, (id) => `update audit_log set actor = 'x', hmac = reverse(hmac) where ${of(id, 4)}`],
    // A record of another chain, at the same place.
    ['forged', 1, (id) => `delete from audit_log where tenant_id = '${id}'`,
      (id) => `insert into audit_log select '${id}', seq, ${COLUMNS} from audit_log where tenant_id = 'untouched'`]
  ] as Array<[string, number, ...Array<(tenantId: string) => string>]>) {
    const id = `chain-${noted.size}`
    await writeChain(id)
    await tamper(...statements.map((statement) => statement(id)))
    noted.set(id, `${id} ${seq} ${kind}`)
    t.same((await verify({ tenantId: id })).broken, [noted.get(id)], statements.map(String).join())
  }
  t.same((await verify()).broken.sort(), [...noted.values()].sort(), 'one link of each chain')
  const { links } = await verify({ tenantId: 'chain-9' })
  t.equal(links[0]?.detail, 'it stands at 4 now')
})

await t.test('a long chain that is broken at its begin is named by that', async (t) => {
  await service.writeOld('chain-long', ...Array<number>(1200).fill(1))
  await tamper(`update audit_log set actor = 'x' where ${of('chain-long', 2)}`)
  t.match(await verify({ tenantId: 'chain-long' }), { records: 1200, broken: ['chain-long 2 tampered'] })
})

await t.test('a chain that was cut off the end, or is gone, is found by the noted heads alone', async (t) => {
  for (const id of ['short', 'gone', 'replaced', 'longer']) await writeChain(id)
  const noted = (await heads()).filter(({ tenant_id: id }) => ['short', 'gone', 'replaced', 'longer'].includes(id))
  await app.audit.record(entry('longer'))
  await tamper(
    "delete from audit_log where tenant_id = 'short' and seq > 4",
    "delete from audit_log where tenant_id = 'gone'"
  )
  const broken = async (heads = noted) =>
    (await verify({ noted: heads })).broken.filter((line) => !line.startsWith('chain-'))
  t.same(await broken([]), [])
  t.same(await broken(), ['short 5 truncated', 'gone 1 truncated'])

  // The service writes on, in another process: the noted head is another record now.
  const other = await service.writer()
  for (const n of [5, 6, 7]) await other.record(entry('short', { request_id: `other-${n}` }))
  t.same(await broken([]), [])
  t.same(await broken(), ['short 6 forged', 'gone 1 truncated'])
  const never = [{ tenant_id: 'never', seq: 3, hmac: 'x' }]
  t.same((await verify({ noted: never, tenantId: 'never' })).broken, ['never 1 truncated'])
})

await t.test('the owner of the database cannot recompute a chain without the audit key', async (t) => {
  await writeChain('recomputed')
  const rows = await sql("select * from audit_log where tenant_id = 'recomputed' order by seq")
  t.equal(rows.length, 6)
  const forgery = { ...entry('recomputed', { actor: 'forged' }), count: 1 }
  const entries = [1, 2, 3].map(() => ({ ...forgery, at: isoFromMs(Date.now()) }))
  const forged = link(randomBytes(32), { seq: 0, hmac: '' }, entries).rows
  await tamper("delete from audit_log where tenant_id = 'recomputed'",
    `insert into audit_log select * from json_populate_recordset(null::audit_log, '${JSON.stringify(forged)}')`)
  t.same((await verify({ tenantId: 'recomputed' })).broken, ['recomputed 1 forged'])
  const [stored] = await sql('select sealed from service_secrets')
  t.match(stored?.['sealed'], /^v2\.t1\.\.[\w-]+$/, 'the key is sealed, without a hint')
  await sql("update service_secrets set sealed = overlay(sealed placing 'AAAA' from 12)")
  await t.rejects(verify(), UNREADABLE)
  await t.rejects(buildTestApp(t, { DATABASE_URL: databaseUrl }), UNREADABLE)
  await sql('update service_secrets set sealed = $1', [stored?.['sealed']])
})

await t.test('the audit key survives a rotation while the service runs, and is of the service alone', async (t) => {
  const { databaseUrl, sql, verify, app } = await auditService(t)
  await app.audit.record(entry('acme'))
  const key = newKey()
  const keyRing = `k2:${key},${baseEnv.ENCRYPTION_KEYS}`
  const { app: next } = await buildTestApp(t, { DATABASE_URL: databaseUrl, ENCRYPTION_KEYS: keyRing })
  await next.audit.record(entry('acme'))
  t.match(await rotate(databaseUrl, { keyRing }), { replaced: 1, counts: [{ key_id: 'k2', format: 'v2', count: 1 }] })
  const [stored] = await sql('select sealed from service_secrets')
  t.match(stored?.['sealed'], /^v2\.k2\.\.[\w-]+$/)
  for (const { audit } of [app, next]) await audit.record(entry('acme'))
  await t.rejects(verify(), UNREADABLE, 'the former ring')

  const after = `k2:${key}`
  const { app: last } = await buildTestApp(t, { DATABASE_URL: databaseUrl, ENCRYPTION_KEYS: after })
  await last.audit.record(entry('acme'))
  t.match(await verify({ keyRing: after }), { records: 5, broken: [] })
  const vault = createVault({ keyRing: after })
  t.equal(Buffer.from(vault.open(String(stored?.['sealed']), '', 'audit_key'), 'base64').length, 32)
  for (const tenantId of ['acme', 'audit_key', '']) {
    t.throws(() => vault.open(String(stored?.['sealed']), tenantId, 'access_token'), { code: 'SECRET_UNREADABLE' })
  }
})

await t.test('of several first starts at once one makes the key', async (t) => {
  const { databaseUrl, sql, verify, app } = await auditService(t)
  await app.close()
  await sql('truncate service_secrets, vault_keys')
  const apps = await Promise.all([1, 2, 3].map(async () => await buildTestApp(t, { DATABASE_URL: databaseUrl })))
  await Promise.all(apps.map(async ({ app }) => await app.audit.record(entry('acme'))))
  t.match(await verify(), { records: 3, broken: [] })
  const keys = await Promise.all(apps.map(async ({ app }) => await obtainAuditKey(app.database, app.vault)))
  t.equal(new Set(keys.map(String)).size, 1)
})

await t.test('without a start there is no key to verify with', async (t) => {
  const { sql, verify } = await auditService(t)
  await sql('truncate service_secrets')
  await t.rejects(verify(), { message: /There is no audit log yet/ })
})
