import pLimit from 'p-limit'
import { createConfigCache } from '../../../src/config-loader/cache.js'
import { DatabaseUnavailable } from '../../../src/errors.js'

export const KEY = 'acme'
export const LONG = 1e9

/** What a read says of a row that cannot be opened. */
class Spoilt extends Error {
  readonly version: number

  constructor (version: number) {
    super('spoilt')
    this.version = version
  }
}

/** A read that the database has not yet answered, and the version it has seen, once it has looked. */
interface Read {
  version?: number
  isInvalidated: boolean
  resolve: (version: number) => void
  reject: (err: Error) => void
}

export type World = ReturnType<typeof createWorld>

/**
 * A database of one row whose versions are numbers, a cache over it, and those who ask it. Nothing happens by itself.
 * Time does not pass: what may serve without changes being heard may do so for ever with a `blindTtl` that is LONG, and
 * never with one of 0. Two reads at most are under way. `wrong` collects each answer that breaks a promise.
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

  /** Holds what somebody hears to what was there when he asked, and when he is answered. */
  function check (said: string, version: number, atLeast: number, invalidations: number): void {
    if (version < atLeast) wrong.push(`${said} ${version}, but ${atLeast} was there before the question`)
    // Only who is overtaken again and again may get one in between, or in an outage, or who began to wait when nobody
    // would have told.
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

    /** Somebody asks the cache. */
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

    /** The row is written; nobody is told yet. */
    write: () => { now.version++ },

    /** The cache is told. */
    invalidate: () => { invalidate(() => { cache.invalidate(KEY) }) },
    invalidateAll: () => { invalidate(cache.invalidateAll) },

    /** From now on nobody is told, until somebody listens anew. */
    lose: () => {
      listenerHealth.validUntil = -Infinity
      now.wasBlind = true
    },
    listen: () => {
      listenerHealth.validUntil = Infinity
      invalidate(cache.invalidateAll)
    },

    /** The database lets nobody in, as was suspected; it does again. */
    confirm: () => { detector.isDown = true },
    recover: () => {
      detector.isDown = false
      detector.hasFailure = false
    },

    /** A read sees the row as it is. */
    look: (read: Read) => { read.version = now.version },

    /** A read ends, with what it saw or with an error. */
    end (read: Read, how: 'well' | 'away' | 'spoilt' = 'well'): void {
      reads.splice(reads.indexOf(read), 1)
      const { version = now.version } = read
      if (how === 'well') read.resolve(version)
      else read.reject(how === 'away' ? new DatabaseUnavailable() : new Spoilt(version))
    }
  }
}
