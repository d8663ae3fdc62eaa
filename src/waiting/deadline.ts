import { DatabaseUnavailable } from '../errors.js'

/** A read may start this long after its request. It takes 3.3 seconds at most, and the caller is answered within 5. */
const READ_DEADLINE_MS = 1500
/** A caller is answered within this time. Half a second below what is promised, since a busy process runs timers late. */
const ANSWER_DEADLINE_MS = 4500

/** Whether a read that starts now may end too late for a request of this time (ms of `performance.now()`). */
export const isPastReadDeadline = (requestedAt: number) => performance.now() - requestedAt > READ_DEADLINE_MS

/** Whether nobody waits any more for the answer to a request of this time (ms of `performance.now()`). */
export const isPastAnswerDeadline = (requestedAt: number) => performance.now() - requestedAt > ANSWER_DEADLINE_MS

/**
 * Throws `DATABASE_UNAVAILABLE` when the database is down, or when another read may end too late for a request of this time
 * (ms of `performance.now()`).
 */
export function assertWithinDeadline (requestedAt: number, detector: { readonly isDown: boolean }): void {
  if (detector.isDown || isPastReadDeadline(requestedAt)) throw new DatabaseUnavailable()
}

/**
 * Waits for `work`, at most until the deadline of the answer, and throws `DATABASE_UNAVAILABLE` then. The work goes on.
 *
 * @param requestedAt when the caller's request began (ms of `performance.now()`)
 */
export async function withAnswerDeadline<T> (work: Promise<T>, requestedAt: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const deadline = new Promise<never>((_resolve, reject) => {
    const left = requestedAt + ANSWER_DEADLINE_MS - performance.now()
    timer = setTimeout(() => { reject(new DatabaseUnavailable()) }, left)
  })
  return await Promise.race([work, deadline]).finally(() => { clearTimeout(timer) })
}
