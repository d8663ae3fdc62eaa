import { MetaRateLimited } from '../errors.js'
import { retryAfterIn } from '../meta/advice.js'

const SECOND_MS = 1000
const MINUTE_MS = 60 * SECOND_MS

/** The delay after a transient failure, such as a timeout of Meta. */
const RETRY_MS = 5 * MINUTE_MS
/** The same for a check that a warning or the end depends on. */
const DEADLINE_RETRY_MS = MINUTE_MS
/** The delay after a fault that an operator or the tenant must correct. */
const OPERATOR_FAULT_RETRY_MS = 60 * MINUTE_MS
/** Between two checks of an unverified identity, for a day after its row was written: its number may appear at Meta. */
const UNVERIFIED_RETRY_MS = 60 * MINUTE_MS
const NEW_ROW_AGE_MS = 24 * 60 * MINUTE_MS

/** Milliseconds until a check is retried that met a transient failure. */
export const failureDelay = (isDeadline: boolean, interval: number) =>
  Math.min(interval, isDeadline ? DEADLINE_RETRY_MS : RETRY_MS)

/** Milliseconds until a failed call to Meta is retried: those that Meta names, else `failureDelay`. */
export function retryDelay (err: unknown, isDeadline: boolean, interval: number): number {
  const seconds = err instanceof MetaRateLimited ? retryAfterIn(err) : undefined
  return seconds === undefined ? failureDelay(isDeadline, interval) : seconds * SECOND_MS
}

/** Milliseconds until a token is checked again that a fault keeps from being checked. */
export const faultDelay = (interval: number) => Math.min(interval, OPERATOR_FAULT_RETRY_MS)

/** Milliseconds until Meta is asked again for an identity that it does not confirm; Infinity when the row is old. */
export function unconfirmedDelay (rowUpdatedAt: string, now: number, interval: number): number {
  return now - Date.parse(rowUpdatedAt) < NEW_ROW_AGE_MS ? Math.min(interval, UNVERIFIED_RETRY_MS) : Infinity
}
