import { LRUCache } from 'lru-cache'
import type { Audit, Origin } from '../audit/audit.js'
import { createPoller } from '../waiting/poller.js'

const HOUR_MS = 3_600_000
const SWEEP_MS = 600_000
/** Pairs of a key and a tenant; the count of one that is dropped is recorded. */
const MAX_PAIRS = 50_000

/** A read of secrets with a service key. */
export interface SecretRead {
  keyId: string
  /** The owner of the secrets; empty for those of `.env`. */
  tenantId: string
  /** Returns where the request came from; it is called for a read that is recorded. */
  originOf: () => Origin
}

interface Pair extends Omit<SecretRead, 'originOf'> {
  recordedAt: number
  /** Undefined once the record is stored. */
  recording: Promise<void> | undefined
  /** The reads since then. */
  count: number
}

/**
 * Records the first read of each key and tenant, and then once an hour with the number of reads: a record of each read
 * would cost a write of the database.
 *
 * @param now milliseconds of a clock that never jumps
 */
export function createReadAudit (record: Audit['recordKeyReads'], now = () => performance.now()) {
  const pairs = new LRUCache<string, Pair>({
    max: MAX_PAIRS,
    dispose: (pair, _name, reason) => { if (reason === 'evict') flushed = Promise.all([flushed, flush(pair)]) }
  })
  let flushed: Promise<unknown> = Promise.resolve()
  const { start, stop } = createPoller({ periodMs: SWEEP_MS, work: sweep })

  return {
    /** Records the counts of pairs that are no longer read, from now on. */
    start,

    sweep,

    /**
     * Counts a read. Returns undefined when a record of this hour is stored, and the answer may leave; else a promise
     * that waits for the record, and rejects as it does.
     */
    add (read: SecretRead): Promise<void> | undefined {
      const name = `${read.keyId} ${read.tenantId}`
      const known = pairs.get(name)
      if (known === undefined || now() >= known.recordedAt + HOUR_MS) return recordFirst(name, read, known)
      known.count++
      return known.recording
    },

    /** Records all counts. */
    async stop (): Promise<void> {
      await stop()
      await Promise.all([flushed, ...[...pairs.values()].map(flush)])
    }
  }

  async function recordFirst (
    name: string, { keyId, tenantId, originOf }: SecretRead, former: Pair | undefined
  ): Promise<void> {
    const recording = record(keyId, tenantId, 1 + (former?.count ?? 0), originOf())
    const pair: Pair = { keyId, tenantId, recordedAt: now(), recording, count: 0 }
    pairs.set(name, pair)
    try {
      await recording
      pair.recording = undefined
    } catch (err) {
      // The reads that waited for it get no answer. Those of the hour before got theirs.
      if (former === undefined) pairs.delete(name)
      else pairs.set(name, former)
      throw err
    }
  }

  /** Records the counts of pairs whose hour is over, and forgets these. */
  async function sweep (): Promise<void> {
    for (const [name, pair] of [...pairs.entries()]) {
      if (now() < pair.recordedAt + HOUR_MS) continue
      pairs.delete(name)
      await flush(pair)
    }
  }

  /** `record` logs what it cannot store; nobody waits for these reads any more. */
  async function flush ({ keyId, tenantId, count }: Pair): Promise<void> {
    if (count > 0) await record(keyId, tenantId, count, null).catch(() => {})
  }
}
