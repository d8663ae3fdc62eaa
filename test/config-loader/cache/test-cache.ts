import pLimit from 'p-limit'
import { createConfigCache } from '../../../src/config-loader/cache.js'
import { DatabaseUnavailable } from '../../../src/errors.js'

/** Milliseconds that never pass during a test. */
export const LONG = 1e9

export const databaseDown = new DatabaseUnavailable()

/**
 * Creates a cache over values that the test sets, with counted reads. The read of a key without a value stays open
 * until the test resolves it.
 */
export function createTestCache ({ max = 10, ttl = LONG, blindTtl = LONG, staleIfError = LONG } = {}) {
  const listenerHealth = { lastConfirmedAt: -Infinity, validUntil: Infinity }
  const detector = { isDown: false, failures: 0, reportFailure: () => { detector.failures++ } }
  const counts = { hits: 0, misses: 0, loads: 0, invalidations: 0, stale_serves: 0 }
  const values = new Map<string, number | null | Error>()
  const open: ((value: number | null) => void)[] = []
  const read = async (key: string) => {
    const value = values.get(key)
    if (value instanceof Error) throw value
    return value === undefined ? await new Promise<number | null>((resolve) => { open.push(resolve) }) : value
  }
  const cache = createConfigCache({
    max,
    ttl,
    blindTtl,
    staleIfError,
    listenerHealth,
    detector,
    counts,
    limitRead: pLimit(100),
    read,
    canServeStale: (value: number | null) => value !== null
  })
  return { cache, listenerHealth, detector, counts, values, open }
}
