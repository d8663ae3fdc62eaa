import { LRUCache } from 'lru-cache'
import type { Database } from '../../database/database.js'
import type { Queryable } from '../../database/statement.js'
import { AuditUnavailable } from '../../errors.js'
import { append, headsOfChains, lockChain } from './append.sql.js'
import { link, NO_RECORDS, type AuditEntry, type Head } from '../chain.js'

const MAX_HEADS = 10_000
/**
 * A head is remembered for so long. `audit_cut` keeps the records of the last day, so those that other processes append
 * meanwhile are not cut: the next record after the head conflicts with them.
 */
const HEAD_TTL_MS = 3_600_000

interface ChainWriterDependencies {
  database: Pick<Database, 'run' | 'transaction'>
  key: Buffer
  /** Whether AUDIT_STREAM gets the records. */
  isStreamed: boolean
}

/** Entries by tenant. */
type Batches = Map<string, AuditEntry[]>

export type ChainWriter = ReturnType<typeof createChainWriter>

/** Creates the writer of chains. It remembers the heads that it wrote. */
export function createChainWriter ({ database, key, isStreamed }: ChainWriterDependencies) {
  // By the clock that dates the records: another one may stop while the machine sleeps.
  const heads = new LRUCache<string, Head>({ max: MAX_HEADS, ttl: HEAD_TTL_MS, perf: { now: () => Date.now() } })

  return {
    /**
     * Appends to several chains with one statement, which waits for no other transaction.
     *
     * @returns the tenants whose entries are all stored. None of another chain is: a transaction writes it, or wrote it
     * since its head was read. The next call reads that again.
     */
    async tryAppend (batches: Batches): Promise<Set<string>> {
      const known = new Map<string, Head>()
      for (const tenantId of batches.keys()) {
        const head = heads.get(tenantId)
        if (head !== undefined) known.set(tenantId, head)
        // The statement may fail, and be executed nevertheless.
        heads.delete(tenantId)
      }
      const stored = await appendAfter(database, batches, known)
      for (const [tenantId, head] of stored) heads.set(tenantId, head)
      return new Set(stored.keys())
    },

    /**
     * Appends to one chain; waits for the transactions that write it.
     *
     * @throws AUDIT_UNAVAILABLE when a foreign writer, without a lock, was faster
     */
    async append (tenantId: string, entries: AuditEntry[]): Promise<void> {
      await database.transaction(async (tx) => { await appendIn(tx, tenantId, entries) })
    },

    appendIn
  }

  /** Appends to one chain in a transaction of the caller, which blocks the chain until its end; throws as `append`. */
  async function appendIn (tx: Queryable, tenantId: string, entries: AuditEntry[]): Promise<void> {
    await tx.run(lockChain, { tenant_id: tenantId })
    // A statement of its own: it sees what was committed during the wait for the lock.
    const stored = await appendAfter(tx, new Map([[tenantId, entries]]), new Map())
    if (stored.size === 0) throw new AuditUnavailable()
  }

  /** Appends to chains, whose heads it reads where they are not known. Returns the new heads of those that it wrote. */
  async function appendAfter (
    db: Pick<Queryable, 'run'>, batches: Batches, known: Map<string, Head>
  ): Promise<Map<string, Head>> {
    const unknown = [...batches.keys()].filter((tenantId) => !known.has(tenantId))
    const read = unknown.length === 0 ? [] : await db.run(headsOfChains, { tenant_ids: unknown })
    for (const { tenant_id: tenantId, ...head } of read) known.set(tenantId, head)

    const linked = new Map([...batches].map(([tenantId, entries]) => {
      const previous = known.get(tenantId) ?? NO_RECORDS
      return [tenantId, { previous: { tenant_id: tenantId, ...previous }, ...link(key, previous, entries) }]
    }))
    const all = [...linked.values()]
    const stored = await db.run(append, {
      rows: JSON.stringify(all.flatMap(({ rows }) => rows)),
      heads: JSON.stringify(all.map(({ previous }) => previous)),
      is_streamed: isStreamed
    })
    const storedIds = new Set(stored.map(({ tenant_id: tenantId }) => tenantId))
    return new Map(all.filter(({ previous }) => storedIds.has(previous.tenant_id)).map(({ previous, head }) =>
      [previous.tenant_id, head]))
  }
}
