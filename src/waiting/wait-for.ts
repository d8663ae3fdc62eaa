import { setMaxListeners } from 'node:events'
import type { ErrorClass } from '../errors.js'

/** The sequential calls to Meta of one onboarding. */
const MAX_CALLS = 6

/** Bounds the wait of a request for other requests: the longest duration of an onboarding. */
export const maxWaitMs = (graphTimeoutMs: number) => MAX_CALLS * graphTimeoutMs

/** The timeout of a wait, and its error. */
export interface WaitLimit { ms: number, TimeoutError: ErrorClass }

/**
 * Waits for a promise. An early end of the wait does not cancel the promise's work.
 *
 * @throws the rejection of the promise, the reason of the first aborted signal, or the error of the limit
 */
export async function waitFor<T> (promise: Promise<T>, signals: AbortSignal[], limit?: WaitLimit): Promise<T> {
  const cleanUps: Array<() => void> = []
  try {
    return await new Promise<T>((resolve, reject) => {
      promise.then(resolve, reject)
      for (const signal of signals) {
        const abort = () => { reject(signal.reason) }
        if (signal.aborted) abort()
        signal.addEventListener('abort', abort)
        cleanUps.push(() => { signal.removeEventListener('abort', abort) })
      }
      if (limit === undefined) return
      const timer = setTimeout(() => { reject(new limit.TimeoutError()) }, limit.ms)
      cleanUps.push(() => { clearTimeout(timer) })
    })
  } finally {
    for (const cleanUp of cleanUps) cleanUp()
  }
}

/** Creates a controller whose signal accepts any number of listeners. */
export function sharedController (): AbortController {
  const controller = new AbortController()
  setMaxListeners(0, controller.signal)
  return controller
}
