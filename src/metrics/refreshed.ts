import { DatabaseUnavailable } from '../errors.js'
import { waitFor } from '../waiting/wait-for.js'

/** After a failure the next read is due at the latest in this time. */
const RETRY_MS = 60_000

interface RefreshOptions<T> {
  /** Between the beginnings of two reads. */
  periodMs: number
  /** How long a caller waits for a read; then it gets the value before. */
  waitMs: number
  read: () => Promise<T>
  /** Called at the first of several failures. */
  report: (err: unknown) => void
}

/**
 * Returns a function that returns the latest value; undefined before the first one, and after a failure. It reads
 * again once the period has passed, only one read at a time, however many callers there are.
 */
export function createRefreshed<T> ({ periodMs, waitMs, read, report }: RefreshOptions<T>) {
  let value: T | undefined
  let isFailing = false
  let dueAt = -Infinity
  let reading: Promise<void> | undefined

  return async function latest (): Promise<T | undefined> {
    if (performance.now() >= dueAt) reading ??= refresh()
    if (reading !== undefined) {
      await waitFor(reading, [], { ms: waitMs, TimeoutError: DatabaseUnavailable }).catch(() => {})
    }
    return value
  }

  async function refresh (): Promise<void> {
    const startedAt = performance.now()
    try {
      value = await read()
      dueAt = startedAt + periodMs
      isFailing = false
    } catch (err) {
      value = undefined
      dueAt = startedAt + Math.min(periodMs, RETRY_MS)
      if (!isFailing) report(err)
      isFailing = true
    }
    reading = undefined
  }
}
