import type { FastifyBaseLogger } from 'fastify'
import type { Database } from '../database/database.js'
import { onlyRow } from '../database/statement.js'
import { isoFromMs } from '../schemas/timestamps.js'
import { createPoller } from '../waiting/poller.js'
import { follows, signCheckpoint, type Head } from './chain.js'
import { chainsWithOldRecords, cutChain, oldestRecords } from './retention.sql.js'

const PERIOD_MS = 60 * 60_000
const DAY_MS = 24 * 60 * 60_000

interface RetentionDependencies {
  database: Pick<Database, 'run'>
  key: Buffer
  /** The setting AUDIT_RETENTION_DAYS, above 0. */
  days: number
  closing: AbortSignal
  log: Pick<FastifyBaseLogger, 'error' | 'warn'>
}

/**
 * Cuts off the records that are too old, every hour. Any number of processes may do so at once. A chain that does not
 * verify is left alone: cutting it would remove the evidence.
 */
export function createAuditRetention ({ database, key, days, closing, log }: RetentionDependencies) {
  return createPoller({ periodMs: PERIOD_MS, work })

  async function work (): Promise<void> {
    const before = isoFromMs(Date.now() - days * DAY_MS)
    try {
      // Without a cut the same chains would be found again.
      for (let isCut = true; isCut && !closing.aborted;) {
        isCut = false
        for (const { tenant_id: tenantId } of await database.run(chainsWithOldRecords(before))) {
          if (await cut(tenantId, before)) isCut = true
        }
      }
    } catch (err) {
      log.warn({ err }, 'AUDIT_RETENTION_DAYS: the audit log could not be cut; it is tried again in an hour')
    }
  }

  /** Cuts off the oldest records of a chain, up to the first one that is kept. Returns whether it did. */
  async function cut (tenantId: string, before: string): Promise<boolean> {
    let last: Head | undefined
    for (const row of await database.run(oldestRecords(tenantId))) {
      if (row.at >= before) break
      if (!follows(key, last ?? { seq: row.cut_seq, hmac: row.cut_hmac }, row)) {
        log.error({ tenant_id: tenantId, seq: row.seq }, 'an audit chain does not verify, and is not cut')
        return false
      }
      last = row
    }
    if (last === undefined) return false
    const link = { tenant_id: tenantId, seq: last.seq, hmac: last.hmac }
    return onlyRow(await database.run(cutChain({ ...link, signature: signCheckpoint(key, link) }))).is_cut
  }
}
