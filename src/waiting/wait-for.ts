import { setMaxListeners } from 'node:events'
import type { ErrorClass } from '../errors.js'

/** How many calls to Meta an onboarding makes one after the other. */
const MAX_CALLS = 6

/** How many milliseconds a request may wait for others: as long as an onboarding may take. */
export const maxWaitMs = (graphTimeoutMs: number) => MAX_CALLS * graphTimeoutMs

/** How many milliseconds a wait may last, and the error that ends it then. */
export interface WaitLimit { ms: number, TimeoutError: ErrorClass }

/**
 * Waits for a promise. When the wait ends early, the promise itself goes on.
 *
 * @throws what the promise rejects with, the reason of the first signal that is aborted, or the error of the limit
 */
export async function waitFor<T> (promise: Promise<T>, signals: AbortSignal[], limit?: WaitLimit): Promise<T> {
  const cleanUps: Array<() => void> = []
  try {
    return await new Promise<T>((resolve, reject) => {
      promise.then(resolve, reject)
      for (const signal of signals) {
        const end = () => { reject(signal.reason) }
        if (signal.aborted) end()
        signal.addEventListener('abort', end)
        cleanUps.push(() => { signal.removeEventListener('abort', end) })
      }
      if (limit === undefined) return
      const timer = setTimeout(() => { reject(new limit.TimeoutError()) }, limit.ms)
      cleanUps.push(() => { clearTimeout(timer) })
    })
  } finally {
    for (const cleanUp of cleanUps) cleanUp()
  }
}

/** Makes a controller whose signal any number of requests may listen to. */
export function sharedController (): AbortController {
  const controller = new AbortController()
  setMaxListeners(0, controller.signal)
  return controller
}
