import type { FastifyBaseLogger } from 'fastify'
import type { Database } from '../../database/database.js'
import type { Queryable } from '../../database/statement.js'
import { AuditUnavailable } from '../../errors.js'
import { isoFromMs } from '../../schemas/timestamps.js'
import { waitFor } from '../../waiting/wait-for.js'
import { createChainWriter } from './chain-writer.js'
import type { AuditEntry } from '../chain.js'
import { createRecordQueue } from './record-queue.js'

/** A request waits so long for its record; with the read before it, it is answered within 5 seconds. */
const TIMEOUT_MS = 2500

/** An event to record; it happens now. `count` is 1 when it is left out. */
export type NewEntry = Omit<AuditEntry, 'at' | 'count'> & Partial<Pick<AuditEntry, 'count'>>

interface RecorderDependencies {
  database: Pick<Database, 'run' | 'transaction'>
  key: Buffer
  /** Whether AUDIT_STREAM gets the records. */
  isStreamed: boolean
  /** How many statements write at once; 2 at least. */
  concurrency: number
  log: Pick<FastifyBaseLogger, 'error'>
}

export type Recorder = ReturnType<typeof createRecorder>

/** Creates the recorder of the audit log. */
export function createRecorder ({ log, concurrency, ...dependencies }: RecorderDependencies) {
  const writer = createChainWriter(dependencies)
  const queue = createRecordQueue(writer, concurrency)

  return {
    /**
     * Records an entry, and resolves when it is stored.
     *
     * @param tx stores it in this transaction, with the change that it is about; it blocks the chain until the commit
     * @throws AUDIT_UNAVAILABLE when it is not stored in time, and logs the entry; with `tx` the errors of the database
     */
    async record (entry: NewEntry, tx?: Queryable): Promise<void> {
      const dated = { count: 1, ...entry, at: isoFromMs(Date.now()) }
      if (tx !== undefined) {
        await writer.appendIn(tx, entry.tenant_id, [dated])
        return
      }
      try {
        await waitFor(queue.store(dated, TIMEOUT_MS), [], { ms: TIMEOUT_MS, TimeoutError: AuditUnavailable })
      } catch (err) {
        log.error({ err, audit: dated }, 'an audit record could not be stored')
        throw new AuditUnavailable({ cause: err })
      }
    },

    settled: queue.settled
  }
}
