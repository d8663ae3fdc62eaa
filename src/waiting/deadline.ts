import { DatabaseUnavailable } from '../errors.js'

/** A read may start this long after its request. A longer wait would leave it no time before the deadline below. */
const READ_DEADLINE_MS = 1500
/** A caller gets an answer within this time: 5 s are promised, and a busy process runs timers late. */
const ANSWER_DEADLINE_MS = 4500

/** Whether a read that starts now may miss the deadline of a request (`requestedAt`: ms of `performance.now()`). */
export const isPastReadDeadline = (requestedAt: number) => performance.now() - requestedAt > READ_DEADLINE_MS

/** Whether the caller has had its answer already. */
export const isPastAnswerDeadline = (requestedAt: number) => performance.now() - requestedAt > ANSWER_DEADLINE_MS

/** @throws DATABASE_UNAVAILABLE when the database is down, or another read may miss the deadline */
export function assertWithinDeadline (requestedAt: number, detector: { readonly isDown: boolean }): void {
  if (detector.isDown || isPastReadDeadline(requestedAt)) throw new DatabaseUnavailable()
}

/**
 * Waits for `work` until the deadline of the answer. A timeout does not stop the work.
 *
 * @param requestedAt when the request began (ms of `performance.now()`)
 * @throws DATABASE_UNAVAILABLE at the deadline; what `work` throws
 */
export function withAnswerDeadline<T> (work: Promise<T>, requestedAt: number): Promise<T> {
  // One promise; `Promise.race` and `finally` would create five for each load.
  return new Promise((resolve, reject) => {
    // Node drops the fraction of a millisecond, and the timer would run too early.
    const remainingMs = Math.ceil(requestedAt + ANSWER_DEADLINE_MS - performance.now())
    const timer = setTimeout(() => { reject(new DatabaseUnavailable()) }, remainingMs)
    work.then((value) => {
      clearTimeout(timer)
      resolve(value)
    }, (err: unknown) => {
      clearTimeout(timer)
      reject(err)
    })
  })
}
