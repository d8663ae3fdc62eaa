import { sharedController, waitFor, type WaitLimit } from './wait-for.js'

interface Work<T> { result: Promise<T>, callers: number, controller: AbortController }

/**
 * Creates a function that runs work once for all concurrent callers of the same key: it starts the work, or joins it.
 * `signals` and `limit` end the wait of this caller alone. When the last caller stops waiting, the work's own signal
 * is aborted, and the next caller starts new work.
 */
export function createSharedWork<T> () {
  const running = new Map<string, Work<T>>()

  return async function share (
    key: string, start: (signal: AbortSignal) => Promise<T>, signals: AbortSignal[], limit?: WaitLimit
  ): Promise<{ result: T, isFirst: boolean }> {
    const joined = running.get(key)
    const work = joined ?? startWork(start)
    running.set(key, work)
    work.callers++
    try {
      return { result: await waitFor(work.result, signals, limit), isFirst: joined === undefined }
    } finally {
      if (--work.callers === 0) {
        running.delete(key)
        work.controller.abort(new Error('nobody waits any more'))
      }
    }
  }

  function startWork (start: (signal: AbortSignal) => Promise<T>): Work<T> {
    const controller = sharedController()
    const result = start(controller.signal)
    // All callers may have stopped waiting by then.
    result.catch(() => {})
    return { result, callers: 0, controller }
  }
}
