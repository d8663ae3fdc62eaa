import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import type { Database } from '../../database/database.js'
import { createPoller } from '../../waiting/poller.js'
import { nextQuery, sentQuery, type QueuedRecord } from './stream.sql.js'

const POLL_MS = 1000
/** The pause after the first failed attempt; it doubles with each further one, up to the maximum. */
const FIRST_PAUSE_MS = 1000
const MAX_PAUSE_MS = 60_000

/** A record as the stream has it; the first one of a chain has an empty `previous_hmac`. */
export type StreamedRecord = Omit<QueuedRecord, 'id' | 'tenant_id'> & { tenant_id: string | null }

/** Sends records, in their order. `id` is that of the batch. Returns why that failed; null when it did not. */
export type StreamSend = (records: StreamedRecord[], id: string) => Promise<string | null>

interface StreamDependencies {
  database: Pick<Database, 'run'>
  send: StreamSend
  closing: AbortSignal
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
}

/**
 * Sends the records of the outbox to AUDIT_STREAM, each at least once, and those of a chain in their order. One process
 * at a time has the lease for it.
 */
export function createAuditStream ({ database, send, closing, log }: StreamDependencies) {
  const holder = randomUUID()
  let failures = 0
  let resumeAt = 0
  return createPoller({ periodMs: POLL_MS, work })

  async function work (): Promise<void> {
    if (performance.now() < resumeAt) return
    try {
      while (!closing.aborted && await sendBatch());
    } catch (err) {
      reportFailure({ err })
    }
  }

  /** Sends a batch. Returns false when none waits, or another process has the lease. */
  async function sendBatch (): Promise<boolean> {
    const queued = await database.run(nextQuery(holder))
    const ids = queued.map(({ id }) => id)
    const records = queued.flatMap(({ id, tenant_id: tenantId, ...record }) =>
      record.at === null ? [] : { tenant_id: tenantId || null, ...record })
    const fault = records.length === 0 ? null : await send(records, `${ids.at(0)}-${ids.at(-1)}`)
    if (fault !== null) {
      reportFailure({ reason: fault })
      return false
    }
    if (failures > 0) log.info('AUDIT_STREAM takes records again')
    failures = 0
    if (ids.length > 0) await database.run(sentQuery(ids))
    return ids.length > 0
  }

  /** Logs the first failure of an outage. The records stay in the outbox. */
  function reportFailure (fields: object): void {
    if (failures === 0) log.warn(fields, 'audit records could not be sent to AUDIT_STREAM; they are sent later')
    resumeAt = performance.now() + Math.min(FIRST_PAUSE_MS * 2 ** failures, MAX_PAUSE_MS)
    failures++
  }
}
