/**
 * Does work with a signal that is aborted after `ms` with a TimeoutError, or with the reason of `signal`. The signal of
 * AbortSignal.any may be collected as garbage before it fires, on Node 20.
 *
 * @throws what the work throws
 */
export async function withTimeoutSignal<T> (
  signal: AbortSignal, ms: number, work: (signal: AbortSignal) => Promise<T>
): Promise<T> {
  const controller = new AbortController()
  const abort = () => { controller.abort(signal.reason) }
  const timer = setTimeout(() => {
    controller.abort(new DOMException(`no answer within ${ms} ms`, 'TimeoutError'))
  }, ms)
  signal.addEventListener('abort', abort)
  if (signal.aborted) abort()
  try {
    return await work(controller.signal)
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', abort)
  }
}
