import pLimit from 'p-limit'
import { DatabaseUnavailable } from '../errors.js'

// A read takes 3.3 seconds at most, and who asks a database that does not answer is to hear so within 5.
const READ_DEADLINE_MS = 1500
/** A caller has its answer within this time of its request. Half a second below what is promised, since a busy process runs timers late. */
const ANSWER_DEADLINE_MS = 4500
/** Reads that may wait for each connection. More could not begin before the deadline, even at 2 milliseconds a read. */
const MAX_WAITING_PER_CONNECTION = 2000

/** Whether what is begun now may come too late for whom asked `since` then, in milliseconds of `performance.now()`. */
export const isPastReadDeadline = (requestedAt: number) => performance.now() - requestedAt > READ_DEADLINE_MS

/** Whether nobody waits any more for the answer to a request of this time, in milliseconds of `performance.now()`. */
export const isPastAnswerDeadline = (requestedAt: number) => performance.now() - requestedAt > ANSWER_DEADLINE_MS

/** Throws `DATABASE_UNAVAILABLE` when the database is away, or has been so slow that another read may come too late for whom asked `since` then. */
export function assertWithinDeadline (requestedAt: number, detector: { readonly isDown: boolean }): void {
  if (detector.isDown || isPastReadDeadline(requestedAt)) throw new DatabaseUnavailable()
}

/**
 * Waits for `work`, at most until the deadline of the request, and throws `DATABASE_UNAVAILABLE` then. The work goes on.
 *
 * @param requestedAt when the caller's request began (ms of `performance.now()`)
 */
export async function withAnswerDeadline<T> (work: Promise<T>, requestedAt: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const deadline = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => { reject(new DatabaseUnavailable()) }, requestedAt + ANSWER_DEADLINE_MS - performance.now())
  })
  return await Promise.race([work, deadline]).finally(() => { clearTimeout(timer) })
}

/**
 * Has reads take turns, so many at a time: many that wait for the same few connections would run out of time together. Returns what
 * does a read in its turn; it throws what that throws, and `DATABASE_UNAVAILABLE` when too many wait, when the turn comes late and the
 * last read failed, and when the read is no longer needed.
 */
export function createReadLimiter (concurrency: number) {
  const limit = pLimit(concurrency)
  let isFailing = false
  return async <T>(read: () => Promise<T>, isNeeded = () => true): Promise<T> => {
    if (limit.pendingCount >= concurrency * MAX_WAITING_PER_CONNECTION) throw new DatabaseUnavailable()
    const queuedAt = performance.now()
    return await limit(async () => {
      if (!isNeeded() || (isFailing && isPastReadDeadline(queuedAt))) throw new DatabaseUnavailable()
      const reading = read()
      isFailing = await reading.then(() => false, (err: unknown) => err instanceof DatabaseUnavailable)
      return await reading
    })
  }
}
