import { EventEmitter, once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import pLimit from 'p-limit'
import { AuditUnavailable, DatabaseUnavailable } from '../../errors.js'
import { createSlots } from '../../waiting/slots.js'
import type { AuditEntry } from '../chain.js'
import type { ChainWriter } from './chain-writer.js'

/** Records that one statement stores, at most. */
const MAX_BATCH = 100
/** Shared statements at once: while they run, records gather. None of them waits for a chain. */
const MAX_SHARED = 2

/** A record that waits for its turn, until then (ms of `performance.now()`). */
interface Waiting { entry: AuditEntry, until: number, resolve: () => void, reject: (err: unknown) => void }

/** A chain with records that wait, or are being stored. */
interface Chain { tenantId: string, waiting: Waiting[], batch: Waiting[] }

/**
 * Creates the queue of the records that wait. All chains that wait share a statement. A chain that it cannot store is
 * stored alone, so that no other chain waits for it. The records of a chain keep their order.
 *
 * @param concurrency the number of statements at once; 2 at least
 */
export function createRecordQueue (writer: Pick<ChainWriter, 'tryAppend' | 'append'>, concurrency: number) {
  const sharedCount = Math.max(1, Math.min(MAX_SHARED, concurrency - 1))
  const shared = createSlots(sharedCount)
  const alone = pLimit(Math.max(1, concurrency - sharedCount))
  const chains = new Map<string, Chain>()
  /** The chains that wait for a shared statement. */
  const ready = new Set<Chain>()
  let draining: Promise<void> | undefined
  const events = new EventEmitter()

  return {
    /**
     * Resolves when the entry is stored.
     *
     * @param timeoutMs no statement for the entry starts after this time
     */
    async store (entry: AuditEntry, timeoutMs: number): Promise<void> {
      await new Promise<void>((resolve, reject) => {
        const record = { entry, until: performance.now() + timeoutMs, resolve, reject }
        const known = chains.get(entry.tenant_id)
        if (known !== undefined) {
          known.waiting.push(record)
          return
        }
        const chain = { tenantId: entry.tenant_id, waiting: [record], batch: [] }
        chains.set(chain.tenantId, chain)
        makeReady(chain)
      })
    },

    /** Waits until no record waits. */
    async settled (): Promise<void> { if (chains.size > 0) await once(events, 'empty') }
  }

  function makeReady (chain: Chain): void {
    ready.add(chain)
    draining ??= drain()
  }

  async function drain (): Promise<void> {
    while (ready.size > 0) {
      // The requests of one turn of the event loop share a statement.
      await nextTurn()
      await shared.start(async () => { await storeShared(takeReady()) })
    }
    draining = undefined
  }

  /** Takes as many chains and records as share a statement. */
  function takeReady (): Chain[] {
    const group: Chain[] = []
    let free = MAX_BATCH
    for (const chain of ready) {
      if (free === 0) break
      ready.delete(chain)
      chain.batch = dropExpired(chain.waiting.splice(0, free))
      free -= chain.batch.length
      if (chain.batch.length > 0) group.push(chain)
      else release(chain)
    }
    return group
  }

  async function storeShared (group: Chain[]): Promise<void> {
    let left = group
    try {
      // Often another process was faster: the second attempt reads the heads again.
      for (let attempt = 1; attempt <= 2 && left.length > 0; attempt++) {
        const stored = await writer.tryAppend(new Map(left.map(({ tenantId, batch }) => [tenantId, entriesOf(batch)])))
        for (const chain of left) if (stored.has(chain.tenantId)) end(chain)
        left = left.filter(({ tenantId }) => !stored.has(tenantId))
      }
    } catch (err) {
      // Any other error may be about one record.
      if (err instanceof DatabaseUnavailable) {
        for (const chain of left) end(chain, err)
        return
      }
    }
    for (const chain of left) storeAlone(chain)
  }

  function storeAlone (chain: Chain): void {
    alone(async () => {
      chain.batch = dropExpired(chain.batch)
      if (chain.batch.length > 0) await writer.append(chain.tenantId, entriesOf(chain.batch))
    }).then(() => { end(chain) }, (err: unknown) => { end(chain, err) })
  }

  /** Ends the batch of a chain: it is stored, or it failed. */
  function end (chain: Chain, err?: unknown): void {
    for (const { resolve, reject } of chain.batch) {
      if (err === undefined) resolve()
      else reject(err)
    }
    release(chain)
  }

  function release (chain: Chain): void {
    if (chain.waiting.length > 0) {
      makeReady(chain)
      return
    }
    chains.delete(chain.tenantId)
    if (chains.size === 0) events.emit('empty')
  }
}

const entriesOf = (batch: Waiting[]) => batch.map(({ entry }) => entry)

/** Returns the records that still wait. The requests of the others have their answer: AUDIT_UNAVAILABLE. */
function dropExpired (records: Waiting[]): Waiting[] {
  const now = performance.now()
  return records.filter(({ until, reject }) => {
    if (until <= now) reject(new AuditUnavailable())
    return until > now
  })
}
