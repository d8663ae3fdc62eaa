import type { Test } from 'tap'
import { obtainAuditKey } from '../../src/audit/audit-key.sql.js'
import type { NewEntry } from '../../src/audit/audit.js'
import { link, NO_RECORDS } from '../../src/audit/chain.js'
import { readHeads, verifyAuditLog, type BrokenLink, type HeadRow } from '../../src/audit/inspection.js'
import { createRecorder } from '../../src/audit/recorder/recorder.js'
import type { EnvSource } from '../../src/app.js'
import { isoFromMs } from '../../src/schemas/timestamps.js'
import { createVault } from '../../src/vault/vault.js'
import { baseEnv, connect } from '../helper.js'
import { client } from '../routes/client.js'

/** An entry about this tenant. */
export const entry = (tenantId: string, more: Partial<NewEntry> = {}): NewEntry => ({
  tenant_id: tenantId,
  actor: 'user-1',
  role: 'tenant',
  action: 'config.update',
  outcome: 'ok',
  code: null,
  fields: ['callback_url'],
  address: '203.0.113.7',
  request_id: 'request-1',
  ...more
})

/** The service, a client for it, and what a test of the audit log needs besides. */
export async function auditService (t: Test, env: EnvSource = {}) {
  const service = await client(t, env)
  const { app, databaseUrl, sql } = service

  /** The records of a tenant, without time and HMAC. */
  const recordsOf = async (tenantId: string) => await sql(
    'select seq::int, actor, role, action, outcome, code, fields, count, address, request_id from audit_log ' +
      'where tenant_id = $1 order by seq',
    [tenantId]
  )

  /** The records of a tenant so far, in short: `actor role action outcome code fields`. */
  async function linesOf (tenantId: string): Promise<string[]> {
    await app.audit.settled()
    return (await recordsOf(tenantId)).map(({ actor, role, action, outcome, code, fields }) =>
      [actor, role, action, outcome, code, String(fields)].join(' ').trimEnd())
  }

  /** Verifies with these keys: the first broken link of each chain, as `acme 3 tampered`, and the number of records. */
  async function verify (
    { noted = [], tenantId, keyRing = baseEnv.ENCRYPTION_KEYS }:
    { noted?: HeadRow[], tenantId?: string, keyRing?: string } = {}
  ) {
    const broken: BrokenLink[] = []
    const reader = await connect(t, databaseUrl)
    const { records } = await verifyAuditLog(reader, createVault({ keyRing }), {
      tenantId, noted, report: (link) => { broken.push(link) }, progress: () => {}
    })
    return { records, broken: broken.map(({ tenant_id: id, seq, kind }) => `${id} ${seq} ${kind}`), links: broken }
  }

  /** The heads of all chains. */
  async function heads (): Promise<HeadRow[]> {
    const found: HeadRow[] = []
    await readHeads(await connect(t, databaseUrl), undefined, (rows) => { found.push(...rows) })
    return found
  }

  /** Changes the tables as somebody who may turn the triggers off. */
  async function tamper (...statements: string[]): Promise<void> {
    await sql([
      'begin', 'alter table audit_log disable trigger all', 'alter table audit_checkpoints disable trigger all',
      ...statements,
      'alter table audit_log enable always trigger audit_log_guard',
      'alter table audit_checkpoints enable always trigger audit_checkpoints_guard', 'commit'
    ].join(';\n'))
  }

  /** Another writer of the same log, as another process is. */
  async function writer ({ isStreamed = false, concurrency = 5 } = {}) {
    const { database, vault, log } = app
    const key = await obtainAuditKey(database, vault)
    return createRecorder({ database, key, isStreamed, concurrency, log })
  }

  /** Appends records of these days ago to a chain, as the service would have written them. */
  async function writeOld (tenantId: string, ...daysAgo: number[]): Promise<void> {
    const key = await obtainAuditKey(app.database, app.vault)
    const head = (await heads()).find(({ tenant_id: id }) => id === tenantId)
    const { rows } = link(key, head ?? NO_RECORDS, daysAgo.map((days) =>
      ({ ...entry(tenantId), count: 1, at: isoFromMs(Date.now() - days * 24 * 60 * 60_000) })))
    const insert = 'insert into audit_log select * from json_populate_recordset(null::audit_log, $1)'
    await sql(insert, [JSON.stringify(rows)])
  }

  /** Gives the audit log to a role. */
  async function giveTo (role: 'current_user' | 'tenant_config_audit'): Promise<void> {
    await sql(`alter table audit_log owner to ${role};
      alter table audit_checkpoints owner to ${role};
      alter function audit_cut owner to ${role}`)
  }

  return { ...service, recordsOf, linesOf, verify, heads, tamper, writer, writeOld, giveTo }
}
