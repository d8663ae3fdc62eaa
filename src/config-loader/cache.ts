import { DatabaseUnavailable } from '../errors.js'
import {
  assertWithinDeadline, isPastAnswerDeadline, isPastReadDeadline, withAnswerDeadline
} from '../waiting/deadline.js'
import { createSieve } from './eviction/sieve.js'

// Bounds the retries: a key invalidated faster than it loads would never return. The last load is newer than the call.
const MAX_LOADS = 3

/** A loaded value; both times are milliseconds of `performance.now()`. */
export interface CachedValue<T> {
  readonly value: T
  /** When its load began. */
  readonly loadedAt: number
  readonly freshUntil: number
  isVisited: boolean
  /** A promise of the value, for a caller that returns the same one each time. */
  promise: Promise<Extract<T, object>> | undefined
}

/** A value, and whether it could not be confirmed. */
export interface CacheResult<T> { readonly value: T, readonly isStale: boolean }

interface Load<T> {
  readonly startedAt: number
  readonly result: Promise<T>
  /** When the latest caller's request began (ms of `performance.now()`). */
  requestedAt: number
  isInvalidated: boolean
}

/** From when, and until when, no change was missed (ms of `performance.now()`); see `InvalidationListener`. */
export interface ListenerHealth { readonly lastConfirmedAt: number, readonly validUntil: number }

/** The counts of caches since the start. */
export interface CacheCounts {
  hits: number
  misses: number
  loads: number
  invalidations: number
  stale_serves: number
}

interface CacheOptions<T> {
  /** Entries, at most. */
  max: number
  /** How long a value is fresh, in milliseconds. Each gets up to a tenth less, to spread the loads. */
  ttl: number
  /** The same while the listener is down. */
  blindTtl: number
  /** How long a value may serve while the database is down, in milliseconds since it was last confirmed. */
  staleIfError: number
  listenerHealth: ListenerHealth
  detector: { readonly isDown: boolean, reportFailure: () => void }
  counts: CacheCounts
  /** Runs a read when a place is free; refuses it once `isNeeded` is false. */
  limitRead: (read: () => Promise<T>, isNeeded: () => boolean) => Promise<T>
  /** Reads a key from the database. */
  read: (key: string) => Promise<T>
  /** Whether a value may serve while the database is down. */
  canServeStale: (value: T) => boolean
}

export type ConfigCache<T> = ReturnType<typeof createConfigCache<T>>

/**
 * Caches what the database has for a key. However many callers ask for it, one load runs. A load that began before an
 * invalidation of its key is not cached, and its callers load again.
 */
export function createConfigCache<T> (options: CacheOptions<T>) {
  const { max, ttl, blindTtl, staleIfError, listenerHealth, detector, counts, limitRead, read, canServeStale } = options
  const cache = createSieve<CachedValue<T>>(max)
  // Apart from the values: loads of new keys must not evict values that serve stale.
  const loads = new Map<string, Load<T>>()

  // While the listener is up an entry stays valid: a change would have invalidated it.
  const confirmedAt = ({ loadedAt }: CachedValue<T>) => Math.max(loadedAt, listenerHealth.lastConfirmedAt)

  /** The entry of the key, if it is fresh; counts a hit. */
  function freshEntry (key: string): CachedValue<T> | undefined {
    const cached = cache.get(key)
    if (cached === undefined) return undefined
    const now = performance.now()
    const isConfirmed = now < listenerHealth.validUntil || now < confirmedAt(cached) + blindTtl
    const isServable = !detector.isDown || canServeStale(cached.value)
    if (now >= cached.freshUntil || !isConfirmed || !isServable) return undefined
    counts.hits++
    return cached
  }

  /** The fresh value of the key; undefined without one. */
  const peekFresh = (key: string): T | undefined => freshEntry(key)?.value

  /** The cached value while the database is down. Throws `err` where that is none, too old, or not to be served. */
  function serveStale (key: string, err: Error): CacheResult<T> {
    const cached = cache.peek(key)
    const isServable = cached !== undefined && canServeStale(cached.value) &&
      performance.now() < confirmedAt(cached) + staleIfError
    if (!isServable) throw err
    counts.stale_serves++
    return { value: cached.value, isStale: true }
  }

  async function readUnlessDown (key: string): Promise<T> {
    if (detector.isDown) throw new DatabaseUnavailable()
    try {
      return await read(key)
    } catch (err) {
      if (err instanceof DatabaseUnavailable) detector.reportFailure()
      throw err
    }
  }

  /** Caches what a load returned, and ends the load. */
  function save (key: string, value: T, startedAt: number): void {
    loads.delete(key)
    // Whole milliseconds: a number with a fraction would be a separate object for each entry.
    const freshUntil = Math.floor(startedAt + ttl * (0.9 + Math.random() / 10))
    cache.set(key, { value, loadedAt: Math.floor(startedAt), freshUntil, isVisited: false, promise: undefined })
  }

  function startLoad (key: string, requestedAt: number): Load<T> {
    const startedAt = performance.now()
    counts.loads++
    const isNeeded = () => !isPastAnswerDeadline(load.requestedAt)
    const result = limitRead(async () => await readUnlessDown(key), isNeeded).then((value) => {
      if (loads.get(key) === load) save(key, value, startedAt)
      return value
    }, (err: unknown) => {
      if (loads.get(key) === load) loads.delete(key)
      throw err
    })
    const load: Load<T> = { startedAt, result, requestedAt, isInvalidated: false }
    loads.set(key, load)
    return load
  }

  /** The running load; while the listener is down only a new one, since no change would invalidate it. */
  function joinableLoad (key: string): Load<T> | undefined {
    const load = loads.get(key)
    const now = performance.now()
    return load !== undefined && (now < listenerHealth.validUntil || now < load.startedAt + blindTtl) ? load : undefined
  }

  /** Loads the key; again after an invalidation. Throws what `read` does. */
  async function load (key: string, requestedAt: number): Promise<T> {
    assertWithinDeadline(requestedAt, detector)
    for (let count = 1; ; count++) {
      const load = joinableLoad(key) ?? startLoad(key, requestedAt)
      load.requestedAt = Math.max(load.requestedAt, requestedAt)
      const isFinal = () =>
        !load.isInvalidated || count === MAX_LOADS || detector.isDown || isPastReadDeadline(requestedAt)
      try {
        const value = await load.result
        if (isFinal()) return value
      } catch (err) {
        // A secret that did not open may be another one now.
        if (isFinal() || err instanceof DatabaseUnavailable) throw err
      }
    }
  }

  return {
    freshEntry,
    peekFresh,

    /**
     * Returns the fresh value of the key, else loads it. While the database is down, or from the deadline on, it
     * returns the cached value if that may serve.
     *
     * @param requestedAt when the caller's request began (ms of `performance.now()`)
     * @throws what `read` throws, and `DATABASE_UNAVAILABLE` when no value may serve
     */
    async get (key: string, requestedAt = performance.now()): Promise<CacheResult<T>> {
      const cached = freshEntry(key)
      if (cached !== undefined) return { value: cached.value, isStale: false }
      counts.misses++
      try {
        return { value: await withAnswerDeadline(load(key, requestedAt), requestedAt), isStale: false }
      } catch (err) {
        if (!(err instanceof DatabaseUnavailable)) throw err
        return serveStale(key, err)
      }
    },

    /** Drops the entry of the key; a running load is not cached. */
    invalidate (key: string): void {
      cache.delete(key)
      markInvalidated(loads.get(key))
      loads.delete(key)
    },

    /** Drops every entry; no running load is cached. */
    invalidateAll (): void {
      cache.clear()
      for (const load of loads.values()) markInvalidated(load)
      loads.clear()
    },

    /** The number of entries. */
    get size () { return cache.size }
  }
}

function markInvalidated (load: { isInvalidated: boolean } | undefined): void {
  if (load !== undefined) load.isInvalidated = true
}
