import type { Outcome } from './send.js'

/** The delay after the first failed attempt; it doubles with each further one, up to the maximum. */
const FIRST_DELAY_S = 10
const MAX_DELAY_S = 3600
/** The bounds of a `retry-after`. */
const MIN_RETRY_AFTER_S = 1
const MAX_RETRY_AFTER_S = 86_400
/** So many refusals end a delivery. */
const MAX_REFUSALS = 5
/** The receiver wants no more of it. */
const GONE = 410
/** Statuses below 500 that are no refusal: request timeout, conflict, too early, too many requests. */
const PASSING = [408, 409, 425, 429]

/** The attempts for an event so far, with the present one. */
interface Attempts {
  attempts: number
  /** The refusals before the present attempt. */
  refusals: number
  /** Whether the event is too old for another attempt. */
  is_last: boolean
}

type NextStep = { state: 'delivered' | 'ended' } | { state: 'waiting', delay: number, refusals: number }

/**
 * Decides what follows an attempt: nothing, or another one after `delay` seconds. No answer, 5xx and a passing status
 * are retried for as long as the event is not too old; any other status is a refusal.
 */
export function nextStep ({ attempts, refusals: before, is_last: isLast }: Attempts, outcome: Outcome): NextStep {
  const { status, retryAfter } = outcome
  if (status !== null && status >= 200 && status < 300) return { state: 'delivered' }
  const isRefusal = status !== null && status < 500 && !PASSING.includes(status)
  const refusals = before + Number(isRefusal)
  if (isLast || status === GONE || refusals >= MAX_REFUSALS) return { state: 'ended' }
  return { state: 'waiting', delay: parseRetryAfter(retryAfter) ?? delayAfter(attempts), refusals }
}

/** Seconds to wait after so many attempts. The random half spreads events that failed together. */
function delayAfter (attempts: number): number {
  return Math.min(FIRST_DELAY_S * 2 ** (attempts - 1), MAX_DELAY_S) * (1 + Math.random()) / 2
}

/** Reads seconds or an HTTP date (RFC 9110, 10.2.3), within the bounds; null if the header has neither. */
function parseRetryAfter (header = ''): number | null {
  const until = header.endsWith(' GMT') ? Date.parse(header) : NaN
  const seconds = /^\d+$/.test(header) ? Number(header) : (until - Date.now()) / 1000
  return Number.isNaN(seconds) ? null : Math.min(Math.max(seconds, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S)
}
