import pLimit from 'p-limit'
import { createConfigCache } from '../../../src/config-loader/cache.js'
import { DatabaseUnavailable } from '../../../src/errors.js'

export const KEY = 'acme'
export const LONG = 1e9

/** The error of a read whose row cannot be opened. */
class Spoilt extends Error {
  readonly version: number

  constructor (version: number) {
    super('spoilt')
    this.version = version
  }
}

/** A pending read, and the version it has seen, if it has seen one. */
interface Read {
  version?: number
  isInvalidated: boolean
  resolve: (version: number) => void
  reject: (err: Error) => void
}

export type World = ReturnType<typeof createWorld>

/**
 * A database of one row whose versions are numbers, a cache over it, and its callers. The test triggers every event,
 * and time does not pass. With a `blindTtl` of LONG entries serve forever without notifications, with one of 0 never.
 * At most two reads run at once. `wrong` collects each answer that breaks a guarantee.
 */
export function createWorld (blindTtl: number) {
  const listenerHealth = { lastConfirmedAt: -Infinity, validUntil: Infinity }
  const detector = { isDown: false, hasFailure: false, reportFailure: () => { detector.hasFailure = true } }
  const counts = { hits: 0, misses: 0, loads: 0, invalidations: 0, stale_serves: 0 }
  const reads: Read[] = []
  const wrong: string[] = []
  const now = { version: 1, announced: 1, invalidations: 0, waiting: 0, wasBlind: false }
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
  const isBlind = () => listenerHealth.validUntil < 0

  /** Compares an answer with the versions stored when it was requested and when it arrived. */
  function check (said: string, version: number, atLeast: number, invalidations: number): void {
    if (version < atLeast) wrong.push(`${said} ${version}, but ${atLeast} was there before the question`)
    // An older version is allowed in an outage, after three invalidations, or once the listener was lost.
    if (!now.wasBlind && !detector.isDown && now.invalidations - invalidations < 3 &&
      version < now.announced) wrong.push(`${said} ${version}, but ${now.announced} was announced before the answer`)
  }

  function invalidate (how: () => void): void {
    now.announced = now.version
    now.invalidations++
    for (const read of reads) read.isInvalidated = true
    how()
  }

  return {
    cache,
    reads,
    now,
    wrong,
    detector,
    isBlind,

    ask (): void {
      const { invalidations, announced } = now
      const atLeast = isBlind() && blindTtl === 0 ? now.version : announced
      now.waiting++
      cache.get(KEY).then(({ value, isStale }) => {
        if (isStale && value === 1) wrong.push('served what may not outlive the database')
        check(isStale ? 'stale' : 'answered', value, isStale ? announced : atLeast, invalidations)
      }, (err: unknown) => {
        if (err instanceof Spoilt) check('threw', err.version, atLeast, invalidations)
        else if (!(err instanceof DatabaseUnavailable)) wrong.push(String(err))
      }).finally(() => { now.waiting-- })
    },

    /** Writes the row without an invalidation. */
    write: () => { now.version++ },

    invalidate: () => { invalidate(() => { cache.invalidate(KEY) }) },
    invalidateAll: () => { invalidate(cache.invalidateAll) },

    /** Loses the listener: no invalidation arrives until `listen`. */
    lose: () => {
      listenerHealth.validUntil = -Infinity
      now.wasBlind = true
    },
    listen: () => {
      listenerHealth.validUntil = Infinity
      invalidate(cache.invalidateAll)
    },

    /** The detector confirms the outage; `recover` ends it. */
    confirm: () => { detector.isDown = true },
    recover: () => {
      detector.isDown = false
      detector.hasFailure = false
    },

    /** The read sees the current version of the row. */
    look: (read: Read) => { read.version = now.version },

    /** Ends the read with the version it saw, or with an error. */
    end (read: Read, how: 'well' | 'away' | 'spoilt' = 'well'): void {
      reads.splice(reads.indexOf(read), 1)
      const { version = now.version } = read
      if (how === 'well') read.resolve(version)
      else read.reject(how === 'away' ? new DatabaseUnavailable() : new Spoilt(version))
    }
  }
}
