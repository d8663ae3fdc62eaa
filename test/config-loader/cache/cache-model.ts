import pLimit from 'p-limit'
import { createConfigCache } from '../../../src/config-loader/cache.js'
import { DatabaseUnavailable } from '../../../src/errors.js'
import { LONG } from './test-cache.js'

export const KEY = 'acme'

/** The error of a read whose row has an unreadable secret. */
class UnreadableRow extends Error {
  readonly version: number

  constructor (version: number) {
    super('unreadable')
    this.version = version
  }
}

/** A pending read. */
interface Read {
  /** The version that the read saw; missing until it reads the row. */
  version?: number
  isInvalidated: boolean
  resolve: (version: number) => void
  reject: (err: Error) => void
}

export type CacheModel = ReturnType<typeof createCacheModel>

/**
 * Creates a database of one row whose versions are numbers, a cache over it, and its callers. The test triggers every
 * event, and time does not pass. Without notifications entries serve forever if `blindTtl` is LONG, and never if it is
 * 0. At most two reads run at once. `wrong` collects each answer that breaks a guarantee.
 */
export function createCacheModel (blindTtl: number) {
  const listenerHealth = { lastConfirmedAt: -Infinity, validUntil: Infinity }
  const detector = { isDown: false, hasFailure: false, reportFailure: () => { detector.hasFailure = true } }
  const counts = { hits: 0, misses: 0, loads: 0, invalidations: 0, stale_serves: 0 }
  const reads: Read[] = []
  const wrong: string[] = []
  const now = { version: 1, announced: 1, invalidations: 0, waiting: 0, wasListenerDown: false }
  const read = async () => await new Promise<number>(
    (resolve, reject) => { reads.push({ isInvalidated: false, resolve, reject }) }
  )
  const cache = createConfigCache<number>({
    max: 10,
    ttl: LONG,
    blindTtl,
    staleIfError: LONG,
    listenerHealth,
    detector,
    counts,
    limitRead: pLimit(2),
    read,
    canServeStale: (version) => version > 1
  })
  const isListenerDown = () => listenerHealth.validUntil < 0

  /** Compares an answer with the versions stored when it was requested and when it arrived. */
  function check (outcome: string, version: number, atLeast: number, invalidations: number): void {
    if (version < atLeast) wrong.push(`${outcome} ${version}, but ${atLeast} was stored before the call`)
    // An older version is allowed in an outage, after three invalidations, or once the listener was lost.
    if (!now.wasListenerDown && !detector.isDown && now.invalidations - invalidations < 3 &&
      version < now.announced) wrong.push(`${outcome} ${version}, but ${now.announced} was announced before the answer`)
  }

  function invalidateBy (apply: () => void): void {
    now.announced = now.version
    now.invalidations++
    for (const read of reads) read.isInvalidated = true
    apply()
  }

  return {
    cache,
    reads,
    now,
    wrong,
    detector,
    isListenerDown,

    ask (): void {
      const { invalidations, announced } = now
      const atLeast = isListenerDown() && blindTtl === 0 ? now.version : announced
      now.waiting++
      cache.get(KEY).then(({ value, isStale }) => {
        if (isStale && value === 1) wrong.push('served a stale value that cannot be stale')
        check(isStale ? 'stale' : 'answered', value, isStale ? announced : atLeast, invalidations)
      }, (err: unknown) => {
        if (err instanceof UnreadableRow) check('threw', err.version, atLeast, invalidations)
        else if (!(err instanceof DatabaseUnavailable)) wrong.push(String(err))
      }).finally(() => { now.waiting-- })
    },

    /** Writes the row without an invalidation. */
    write: () => { now.version++ },

    invalidate: () => { invalidateBy(() => { cache.invalidate(KEY) }) },
    invalidateAll: () => { invalidateBy(cache.invalidateAll) },

    /** Disconnects the listener: no invalidation arrives until `reconnect`. */
    disconnect: () => {
      listenerHealth.validUntil = -Infinity
      now.wasListenerDown = true
    },
    reconnect: () => {
      listenerHealth.validUntil = Infinity
      invalidateBy(cache.invalidateAll)
    },

    /** The detector confirms the outage; `recover` ends it. */
    confirmOutage: () => { detector.isDown = true },
    recover: () => {
      detector.isDown = false
      detector.hasFailure = false
    },

    /** The read sees the current version of the row. */
    readRow: (read: Read) => { read.version = now.version },

    /** Ends the read with the version it saw, or with an error. */
    end (read: Read, result: 'version' | 'unavailable' | 'unreadable' = 'version'): void {
      reads.splice(reads.indexOf(read), 1)
      const { version = now.version } = read
      if (result === 'version') read.resolve(version)
      else read.reject(result === 'unavailable' ? new DatabaseUnavailable() : new UnreadableRow(version))
    }
  }
}
