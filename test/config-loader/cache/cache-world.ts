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
interface Read { version?: number, isStruck: boolean, resolve: (version: number) => void, reject: (err: Error) => void }

export type World = ReturnType<typeof createWorld>

/**
 * A database of one row whose versions are numbers, a cache over it, and those who ask it. Nothing happens by itself. Time does not
 * pass: what may serve without changes being heard may do so for ever with a `blindTtl` that is LONG, and never with one of 0.
 * Two reads at most are under way. `wrong` collects each answer that breaks a promise.
 */
export function createWorld (blindTtl: number) {
  const trust = { heardAt: -Infinity, trustedUntil: Infinity }
  const outage = { isKnown: false, isSuspected: false, suspect: () => { outage.isSuspected = true } }
  const counts = { hits: 0, misses: 0, loads: 0, invalidations: 0, stale_serves: 0 }
  const reads: Read[] = []
  const wrong: string[] = []
  const now = { version: 1, announced: 1, strikes: 0, waiting: 0, wasBlind: false }
  const read = async () => await new Promise<number>((resolve, reject) => { reads.push({ isStruck: false, resolve, reject }) })
  const cache = createConfigCache<number>({ max: 10, ttl: LONG, blindTtl, staleIfError: LONG, trust, outage, counts, inTurn: pLimit(2), read, outlives: (version) => version > 1 })
  const isBlind = () => trust.trustedUntil < 0

  /** Holds what somebody hears to what was there when he asked, and when he is answered. */
  function judge (said: string, version: number, atLeast: number, strikes: number): void {
    if (version < atLeast) wrong.push(`${said} ${version}, but ${atLeast} was there before the question`)
    // Only who is overtaken again and again may get one in between, or in an outage, or who began to wait when nobody would have told.
    if (!now.wasBlind && !outage.isKnown && now.strikes - strikes < 3 && version < now.announced) wrong.push(`${said} ${version}, but ${now.announced} was announced before the answer`)
  }

  function strike (how: () => void): void {
    now.announced = now.version
    now.strikes++
    for (const read of reads) read.isStruck = true
    how()
  }

  return {
    cache,
    reads,
    now,
    wrong,
    outage,
    isBlind,

    /** Somebody asks the cache. */
    ask (): void {
      const { strikes, announced } = now
      const atLeast = isBlind() && blindTtl === 0 ? now.version : announced
      now.waiting++
      cache.get(KEY).then(({ value, isStale }) => {
        if (isStale && value === 1) wrong.push('served what may not outlive the database')
        judge(isStale ? 'stale' : 'answered', value, isStale ? announced : atLeast, strikes)
      }, (err: unknown) => {
        if (err instanceof Spoilt) judge('threw', err.version, atLeast, strikes)
        else if (!(err instanceof DatabaseUnavailable)) wrong.push(String(err))
      }).finally(() => { now.waiting-- })
    },

    /** The row is written; nobody is told yet. */
    write: () => { now.version++ },

    /** The cache is told. */
    strike: () => { strike(() => { cache.strike(KEY) }) },
    clear: () => { strike(cache.clear) },

    /** From now on nobody is told, until somebody listens anew. */
    lose: () => {
      trust.trustedUntil = -Infinity
      now.wasBlind = true
    },
    listen: () => {
      trust.trustedUntil = Infinity
      strike(cache.clear)
    },

    /** The database lets nobody in, as was suspected; it does again. */
    confirm: () => { outage.isKnown = true },
    recover: () => {
      outage.isKnown = false
      outage.isSuspected = false
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
