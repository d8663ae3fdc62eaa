import { deadStatuses, tokenStatuses, type TokenStatus } from '../schemas/statuses.js'

/** When a token expires, and when its access to data ends (ISO 8601; null: never). */
export interface TokenEnds { expires_at: string | null, data_access_ends_at: string | null }

/**
 * The result of a check: a valid token with its ends, or an invalid one with the reason. Without a
 * `data_access_ends_at` the stored one stays.
 */
export type TokenFinding =
  | { valid: true, expires_at: string | null, data_access_ends_at?: string | null | undefined }
  | { valid: false, reason: string }

/** The state before a finding; times are ISO 8601. */
export interface PreviousState extends TokenEnds {
  status: TokenStatus
  reason: string | null
  checked_at: string | null
  /** The status that the last event reported; of `expiring` with its reason, as `expiring:<reason>`. */
  reported: string | null
  /** Whether the tenant is active. */
  is_active: boolean
}

export interface NextState extends TokenEnds {
  status: TokenStatus
  reason: string | null
  /** As in `PreviousState`. */
  reported: string | null
  /** The event to report, with the status before it; null for none. */
  event: { type: string, from: TokenStatus } | null
  /** When the next check is due (Unix milliseconds). */
  next_check: number
  /** Whether the next check comes before the others that are due: a warning or the end depends on it. */
  is_deadline: boolean
}

const MINUTE_MS = 60 * 1000
const DAY_MS = 24 * 60 * MINUTE_MS
/** Two failed checks within this time count as one. */
const RECHECK_MS = 5 * MINUTE_MS
/** A backlog of checks may delay a check by this time without delaying a warning after it. */
const MAX_BACKLOG_MS = DAY_MS

// The earliest first: the level of a warning is its index.
const WARNINGS = [
  { before: 14 * DAY_MS, within: 'within_14_days' },
  { before: 7 * DAY_MS, within: 'within_7_days' },
  { before: DAY_MS, within: 'within_1_day' }
]

/** The warnings and the end, by the milliseconds before the end. */
const DEADLINES = [...WARNINGS.map(({ before }) => before), 0]

/** Whether a token is to be extended, so many milliseconds before its expiry. */
export const isExpiring = (left: number) => WARNINGS.some(({ before }) => left <= before)

/** Milliseconds until a time (ISO 8601); Infinity without one, negative when it has passed. */
export function timeLeft (time: string | null, now: number): number {
  return time === null ? Infinity : Date.parse(time) - now
}

/**
 * Returns the milliseconds until the earlier end of a token, and the reasons of its state: `passed` once it has passed
 * without an error of Meta's, and how the reasons of the warnings begin.
 */
export function endOf ({ expires_at: expiresAt, data_access_ends_at: dataAccessEndsAt }: TokenEnds, now: number) {
  const [expiry, dataAccess] = [timeLeft(expiresAt, now), timeLeft(dataAccessEndsAt, now)]
  return dataAccess < expiry
    ? { left: dataAccess, passed: 'data_access_ended', ends: 'data_access_ends' }
    : { left: expiry, passed: 'date_passed', ends: 'expires' }
}

/**
 * Computes the state of a token after a finding. The next check comes after `interval`, at the next warning or at the
 * end; for a token near its expiry, which a check may extend, also after half of the time left.
 *
 * @param now when the finding was made (Unix milliseconds)
 * @param interval between two checks (milliseconds)
 */
export function nextState (finding: TokenFinding, previous: PreviousState, now: number, interval: number): NextState {
  const { expires_at, data_access_ends_at = previous.data_access_ends_at } = finding.valid ? finding : previous
  const end = endOf({ expires_at, data_access_ends_at }, now)
  const { left } = end
  const { status, reason } = statusOf(finding, end, previous, now - Math.min(interval, RECHECK_MS))
  const expiry = timeLeft(expires_at, now)
  const half = status === 'expiring' && isExpiring(expiry) ? Math.max(expiry / 2, MINUTE_MS) : Infinity
  const next = DEADLINES.find((before) => before < left)
  const deadline = next === undefined ? Infinity : left - next
  const wait = Math.min(interval, deadline, half)
  const { reported, event } = toReport(status, reason, previous)
  return {
    expires_at,
    data_access_ends_at,
    status,
    reason,
    reported,
    event,
    next_check: now + wait,
    is_deadline: deadline <= wait + Math.min(interval, MAX_BACKLOG_MS)
  }
}

/** @param sameSince two failed checks after this time (Unix milliseconds) count as one */
function statusOf (
  finding: TokenFinding, { left, passed, ends }: ReturnType<typeof endOf>, previous: PreviousState, sameSince: number
): Pick<NextState, 'status' | 'reason'> {
  if (finding.valid && left > 0) {
    // A tenant that is off stays dead until it is turned on.
    const isParked = !previous.is_active && deadStatuses.includes(previous.status)
    if (isParked) return { status: previous.status, reason: previous.reason }
    const warning = WARNINGS.findLast(({ before }) => left <= before)
    if (warning === undefined) return { status: 'ok', reason: null }
    return { status: 'expiring', reason: `${ends}_${warning.within}` }
  }
  const reason = finding.valid ? passed : finding.reason
  // This is the token of the previous finding: a new one would be `unverified`.
  if (deadStatuses.includes(previous.status)) {
    const isSame = previous.checked_at !== null && Date.parse(previous.checked_at) > sameSince
    return { status: isSame ? previous.status : 'reauth_required', reason }
  }
  // 463 is Meta's code for "expired". A known expiry in the future overrides it.
  const isOver = left <= 0 || (previous.expires_at === null && reason === 'meta_190_463')
  return { status: isOver ? 'expired' : 'revoked', reason }
}

function toReport (
  status: TokenStatus, reason: string | null, { status: previous, reported }: PreviousState
): Pick<NextState, 'reported' | 'event'> {
  const [reportedName, reportedReason] = reported?.split(':') ?? []
  const reportedStatus = tokenStatuses.find((name) => name === reportedName)
  const event = { type: `token.${status === 'ok' ? 'recovered' : status}`, from: reportedStatus ?? previous }
  if (status === 'ok') {
    const isRecovery = reportedStatus !== undefined && reportedStatus !== 'ok'
    return isRecovery ? { reported: status, event } : { reported, event: null }
  }
  const isNew = reportedStatus !== status || warningLevel(reason) > warningLevel(reportedReason)
  return { reported: status === 'expiring' ? `${status}:${reason}` : status, event: isNew ? event : null }
}

const warningLevel = (reason: string | null | undefined) =>
  WARNINGS.findIndex(({ within }) => reason?.endsWith(within) === true)
