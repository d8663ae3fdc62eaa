import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import { LRUCache } from 'lru-cache'
import pLimit from 'p-limit'
import type { Database } from '../database/database.js'
import { AuditUnavailable } from '../errors.js'
import type { Queryable } from '../database/statement.js'
import { isoFromMs } from '../schemas/timestamps.js'
import { waitFor } from '../waiting/wait-for.js'
import { append, headOfChain } from './audit.sql.js'
import { link, NO_RECORDS, type AuditEntry, type Head } from './chain.js'

/** A request waits so long for its record; with the read before it, it is answered within 5 seconds. */
const TIMEOUT_MS = 2500
/** Records that one statement stores, at most. */
const MAX_BATCH = 100
/** Attempts against faster writers; the pause before each is random, and longer each time. */
const MAX_ATTEMPTS = 20
const MAX_PAUSE_MS = 5
const MAX_HEADS = 10_000

/** What is to be recorded; it happens now. `count` is 1 when it is left out. */
export type NewEntry = Omit<AuditEntry, 'at' | 'count'> & Partial<Pick<AuditEntry, 'count'>>

interface RecorderDependencies {
  database: Pick<Database, 'run'>
  key: Buffer
  /** Whether AUDIT_STREAM gets the records. */
  isStreamed: boolean
  /** How many chains are written at once. */
  concurrency: number
  log: Pick<FastifyBaseLogger, 'error'>
}

/** A record that waits for its turn. */
interface Waiting { entry: AuditEntry, until: number, resolve: () => void, reject: (err: unknown) => void }

export type Recorder = ReturnType<typeof createRecorder>

/**
 * Creates the writer of the audit log. No writer locks a chain: each knows its head or reads it, and inserts the next
 * record; when another writer was faster it tries again. In this process the records of a chain wait for each other,
 * and those that have gathered are stored by one statement.
 */
export function createRecorder ({ database, key, isStreamed, concurrency, log }: RecorderDependencies) {
  const heads = new LRUCache<string, Head>({ max: MAX_HEADS })
  const queues = new Map<string, { waiting: Waiting[], drained: Promise<void> }>()
  // While the audit log is locked, the other connections of the pool still serve.
  const limit = pLimit(concurrency)

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
        await appendIn(tx, entry.tenant_id, [dated])
        return
      }
      try {
        await waitFor(enqueue(dated), [], { ms: TIMEOUT_MS, TimeoutError: AuditUnavailable })
      } catch (err) {
        log.error({ err, audit: dated }, 'an audit record could not be stored')
        throw new AuditUnavailable({ cause: err })
      }
    },

    /** Waits until no record waits. */
    settled: async (): Promise<void> => { await Promise.all([...queues.values()].map(({ drained }) => drained)) }
  }

  async function enqueue (entry: AuditEntry): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const waiting = { entry, until: performance.now() + TIMEOUT_MS, resolve, reject }
      const queue = queues.get(entry.tenant_id)
      if (queue !== undefined) {
        queue.waiting.push(waiting)
        return
      }
      const first = [waiting]
      queues.set(entry.tenant_id, { waiting: first, drained: drain(entry.tenant_id, first) })
    })
  }

  async function drain (tenantId: string, waiting: Waiting[]): Promise<void> {
    while (waiting.length > 0) {
      await limit(async () => {
        const now = performance.now()
        const batch: Waiting[] = []
        for (const record of waiting.splice(0, MAX_BATCH)) {
          if (record.until > now) batch.push(record)
          // Its request has its answer: AUDIT_UNAVAILABLE.
          else record.reject(new AuditUnavailable())
        }
        if (batch.length > 0) await store(tenantId, batch, waiting)
      })
    }
    queues.delete(tenantId)
  }

  async function store (tenantId: string, batch: Waiting[], others: Waiting[]): Promise<void> {
    try {
      heads.set(tenantId, await appendIn(database, tenantId, batch.map(({ entry }) => entry), heads.get(tenantId)))
      for (const { resolve } of batch) resolve()
    } catch (err) {
      // The statement may have been executed nevertheless.
      heads.delete(tenantId)
      // Others of the chain would fail alike, one batch after the other.
      for (const { reject } of [...batch, ...others.splice(0)]) reject(err)
    }
  }

  /**
   * Appends entries to a chain, and returns its new head.
   *
   * @param known the head, as far as this process knows
   * @throws AUDIT_UNAVAILABLE when other writers were faster each time
   */
  async function appendIn (
    db: Pick<Queryable, 'run'>, tenantId: string, entries: AuditEntry[], known?: Head
  ): Promise<Head> {
    let previous = known
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      previous ??= (await db.run(headOfChain, { tenant_id: tenantId }))[0] ?? NO_RECORDS
      const { rows, head } = link(key, previous, entries)
      const stored = await db.run(append, {
        rows: JSON.stringify(rows),
        previous_seq: previous.seq,
        previous_hmac: previous.hmac,
        is_streamed: isStreamed
      })
      if (stored.length > 0) return head
      previous = undefined
      await delay(Math.random() * MAX_PAUSE_MS * attempt)
    }
    throw new AuditUnavailable()
  }
}
