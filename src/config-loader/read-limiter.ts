import pLimit from 'p-limit'
import { DatabaseUnavailable } from '../errors.js'
import { isPastReadDeadline } from '../waiting/deadline.js'

/** Reads that may wait for each connection. More could not begin before the deadline, even at 2 milliseconds a read. */
const MAX_WAITING_PER_CONNECTION = 2000

/**
 * Limits concurrent reads to the pool size; otherwise all waiters would hit the timeout together.
 *
 * @returns `limit`, which runs a read when a place is free. It throws `DATABASE_UNAVAILABLE` when too many reads wait,
 * when the read is no longer needed, and when its place comes late after a failed read.
 */
export function createReadLimiter (concurrency: number) {
  const limit = pLimit(concurrency)
  let isFailing = false
  return async <T>(read: () => Promise<T>, isNeeded = () => true): Promise<T> => {
    if (limit.pendingCount >= concurrency * MAX_WAITING_PER_CONNECTION) throw new DatabaseUnavailable()
    const queuedAt = performance.now()
    return await limit(async () => {
      if (!isNeeded() || (isFailing && isPastReadDeadline(queuedAt))) throw new DatabaseUnavailable()
      try {
        const value = await read()
        isFailing = false
        return value
      } catch (err) {
        isFailing = err instanceof DatabaseUnavailable
        throw err
      }
    })
  }
}
