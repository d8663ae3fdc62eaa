import pLimit from 'p-limit'
import { DatabaseUnavailable } from './errors.js'

// A read takes 3.3 seconds at most, and who asks a database that does not answer is to hear so within 5.
const LATEST_READ_MS = 1500

/** Whether what is begun now may come too late for whom asked `since` then, in milliseconds of `performance.now()`. */
export const isLate = (since: number) => performance.now() - since > LATEST_READ_MS

/** Throws `DATABASE_UNAVAILABLE` when the database is away, or has been so slow that another read may come too late for whom asked `since` then. */
export function mayAsk (since: number, outage: { readonly isKnown: boolean }): void {
  if (outage.isKnown || isLate(since)) throw new DatabaseUnavailable()
}

/**
 * Has reads take turns, so many at a time: many that wait for the same few connections would run out of time together. Returns what
 * does a read in its turn; it throws what that throws, and `DATABASE_UNAVAILABLE` when the turn comes late and the last read failed.
 */
export function createTurns (atOnce: number) {
  const limit = pLimit(atOnce)
  let isFailing = false
  return async <T>(read: () => Promise<T>): Promise<T> => {
    const since = performance.now()
    return await limit(async () => {
      if (isFailing && isLate(since)) throw new DatabaseUnavailable()
      const reading = read()
      isFailing = await reading.then(() => false, (err: unknown) => err instanceof DatabaseUnavailable)
      return await reading
    })
  }
}
