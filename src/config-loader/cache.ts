import { LRUCache } from 'lru-cache'
import { DatabaseUnavailable } from '../errors.js'
import { isPastReadDeadline, isPastAnswerDeadline, assertWithinDeadline, withAnswerDeadline } from '../waiting/deadline.js'

// A key that is written faster than it is read would keep its readers waiting for ever. What the last read finds is newer than their question all the same.
const MAX_LOADS = 3

/** What the database said of a key. */
export interface CachedValue<T> {
  readonly value: T
  /** When it was asked; milliseconds of `performance.now()`, as the next. */
  readonly loadedAt: number
  readonly freshUntil: number
}

/** A held value, and whether it could not be confirmed. */
export interface Answer<T> { readonly value: T, readonly isStale: boolean }

interface Load<T> {
  readonly startedAt: number
  readonly held: Promise<CachedValue<T>>
  /** When the latest caller's request began (ms of `performance.now()`). */
  requestedAt: number
  isInvalidated: boolean
}

/** Since when, and until when, no change was missed; see `ChangeChannel`. */
export interface ListenerHealth { readonly lastConfirmedAt: number, readonly validUntil: number }

/** What caches count, since the start. */
export interface CacheCounts { hits: number, misses: number, loads: number, invalidations: number, stale_serves: number }

interface CacheOptions<T> {
  /** Entries, at most. */
  max: number
  /** How long a value may serve, in milliseconds; each serves a little shorter, so that not all are read again at once. */
  ttl: number
  /** The same while changes are not heard. */
  blindTtl: number
  /** How long it may serve, in milliseconds since it was last known to be right, while the database is away. */
  staleIfError: number
  listenerHealth: ListenerHealth
  detector: { readonly isDown: boolean, reportFailure: () => void }
  counts: CacheCounts
  /** Does something in its turn, so that not all wait for the same few connections; not at all once it is no longer needed. */
  limitRead: (work: () => Promise<T>, isNeeded: () => boolean) => Promise<T>
  /** Asks the database. */
  read: (key: string) => Promise<T>
  /** Whether a value may serve while the database is away. */
  canServeStale: (value: T) => boolean
}

export type ConfigCache<T> = ReturnType<typeof createConfigCache<T>>

/**
 * Keeps what the database says of a key for as long as that is known to be right. However many ask, the database is asked once; a
 * read that a change overtakes is not kept, and is done again.
 */
export function createConfigCache<T> ({ max, ttl, blindTtl, staleIfError, listenerHealth, detector, counts, limitRead, read, canServeStale }: CacheOptions<T>) {
  const cache = new LRUCache<string, CachedValue<T>>({ max })
  const loads = new Map<string, Load<T>>()

  // What is held from before was confirmed for as long as changes were heard: each would have struck it out.
  const confirmedAt = ({ loadedAt }: Pick<CachedValue<T>, 'loadedAt'>) => Math.max(loadedAt, listenerHealth.lastConfirmedAt)

  const serves = (value: T) => !detector.isDown || canServeStale(value)

  /** What is held of the key and known to be right. */
  function peekFresh (key: string): T | undefined {
    const held = cache.get(key)
    if (held === undefined) return undefined
    const now = performance.now()
    const isFresh = now < held.freshUntil && (now < listenerHealth.validUntil || now < confirmedAt(held) + blindTtl) && serves(held.value)
    if (!isFresh) return undefined
    counts.hits++
    return held.value
  }

  /** What is held of the key, while the database is away. Throws the error if that is nothing, or too old. */
  function serveStale (key: string, err: Error): Answer<T> {
    const held = cache.peek(key)
    if (held === undefined || !canServeStale(held.value) || performance.now() >= confirmedAt(held) + staleIfError) throw err
    counts.stale_serves++
    return { value: held.value, isStale: true }
  }

  function startLoad (key: string, requestedAt: number): Load<T> {
    const startedAt = performance.now()
    counts.loads++
    const keep = (value: T) => {
      const held = { value, loadedAt: startedAt, freshUntil: startedAt + ttl * (0.9 + Math.random() / 10) }
      if (loads.get(key) === load) cache.set(key, held)
      return held
    }
    const failed = (err: unknown) => {
      if (err instanceof DatabaseUnavailable) detector.reportFailure()
      throw err
    }
    const held = limitRead(async () => {
      if (detector.isDown) throw new DatabaseUnavailable()
      return await read(key).catch(failed)
    }, () => !isPastAnswerDeadline(load.requestedAt)).then(keep).finally(() => {
      if (loads.get(key) === load) loads.delete(key)
    })
    const load: Load<T> = { startedAt, held, requestedAt, isInvalidated: false }
    loads.set(key, load)
    return load
  }

  /** A read that may answer who asks now: not one that began long before, when nobody would say that a change overtook it. */
  function joinableLoad (key: string): Load<T> | undefined {
    const load = loads.get(key)
    const now = performance.now()
    return load !== undefined && (now < listenerHealth.validUntil || now < load.startedAt + blindTtl) ? load : undefined
  }

  /** Asks the database for whom it was `since` then to answer. Throws what `read` does. */
  async function load (key: string, since: number): Promise<T> {
    assertWithinDeadline(since, detector)
    for (let reads = 1; ; reads++) {
      const load = joinableLoad(key) ?? startLoad(key, since)
      load.requestedAt = Math.max(load.requestedAt, since)
      const isFinal = () => !load.isInvalidated || reads === MAX_LOADS || detector.isDown || isPastReadDeadline(since)
      try {
        const { value } = await load.held
        if (isFinal()) return value
      } catch (err) {
        // A secret that could not be opened may be another one now.
        if (isFinal() || err instanceof DatabaseUnavailable) throw err
      }
    }
  }

  return {
    peekFresh,

    /**
     * What is held of the key, or else what the database says, for whom it was `since` then to answer; past the deadline what was
     * known last. Throws what `read` does, and `DATABASE_UNAVAILABLE` at the deadline when nothing may be served.
     */
    async get (key: string, since = performance.now()): Promise<Answer<T>> {
      const value = peekFresh(key)
      if (value !== undefined) return { value, isStale: false }
      counts.misses++
      try {
        return { value: await withAnswerDeadline(load(key, since), since), isStale: false }
      } catch (err) {
        if (!(err instanceof DatabaseUnavailable)) throw err
        return serveStale(key, err)
      }
    },

    /** Strikes out what is held of the key, and what is being read. */
    invalidate (key: string): void {
      cache.delete(key)
      markInvalidated(loads.get(key))
      loads.delete(key)
    },

    /** Strikes out everything. */
    invalidateAll (): void {
      cache.clear()
      for (const load of loads.values()) markInvalidated(load)
      loads.clear()
    },

    /** How many entries there are. */
    get size () { return cache.size }
  }
}

function markInvalidated (load: { isInvalidated: boolean } | undefined): void {
  if (load !== undefined) load.isInvalidated = true
}
