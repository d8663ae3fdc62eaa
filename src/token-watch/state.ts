import { deadStatuses, tokenStatuses, type TokenStatus } from '../schemas/statuses.js'

/** The result of a check: a valid token with its expiry (ISO 8601; null: never), or an invalid one with the reason. */
export type TokenFinding = { valid: true, expires_at: string | null } | { valid: false, reason: string }

/** The state before a finding; times are ISO 8601. */
export interface PreviousState {
  expires_at: string | null
  status: TokenStatus
  reason: string | null
  checked_at: string | null
  /** The status that the last event reported; of `expiring` with its reason, as `expiring:<reason>`. */
  reported: string | null
  /** Whether the tenant is active. */
  is_active: boolean
}

export interface NextState {
  status: TokenStatus
  reason: string | null
  /** As in `PreviousState`. */
  reported: string | null
  /** The event to report, with the status before it; null for none. */
  event: { type: string, from: TokenStatus } | null
  /** When the next check is due (Unix milliseconds). */
  next_check: number
}

const MINUTE_MS = 60 * 1000
const DAY_MS = 24 * 60 * MINUTE_MS
/** Two failed checks within this time count as one. */
const RECHECK_MS = 5 * MINUTE_MS

// The earliest first: the level of a warning is its index.
const WARNINGS = [
  { before: 14 * DAY_MS, reason: 'expires_within_14_days' },
  { before: 7 * DAY_MS, reason: 'expires_within_7_days' },
  { before: DAY_MS, reason: 'expires_within_1_day' }
]

/** The reason of a token whose expiry has passed, without an error of Meta's. */
export const DATE_PASSED = 'date_passed'

/** Whether a token is to be extended, so many milliseconds before its expiry. */
export const isExpiring = (left: number) => WARNINGS.some(({ before }) => left <= before)

/** Milliseconds until the expiry (ISO 8601) of a token; Infinity without one, negative when it has passed. */
export function timeLeft (expiresAt: string | null, now: number): number {
  return expiresAt === null ? Infinity : Date.parse(expiresAt) - now
}

/**
 * Computes the state of a token after a finding. The next check comes after `interval`, at the next warning or at the
 * expiry; for an expiring token, which a check may extend, also after half of the time left.
 *
 * @param now when the finding was made (Unix milliseconds)
 * @param interval between two checks (milliseconds)
 */
export function nextState (finding: TokenFinding, previous: PreviousState, now: number, interval: number): NextState {
  const left = timeLeft(finding.valid ? finding.expires_at : previous.expires_at, now)
  const sinceCheck = previous.checked_at === null ? Infinity : now - Date.parse(previous.checked_at)
  const isLater = sinceCheck >= Math.min(interval, RECHECK_MS)
  const { status, reason } = statusOf(finding, left, previous, isLater)
  const half = status === 'expiring' ? Math.max(left / 2, MINUTE_MS) : Infinity
  const moments = [...WARNINGS.map(({ before }) => left - before), left, half].filter((wait) => wait > 0)
  return { status, reason, ...toReport(status, reason, previous), next_check: now + Math.min(interval, ...moments) }
}

function statusOf (
  finding: TokenFinding, left: number, previous: PreviousState, isLater: boolean
): Pick<NextState, 'status' | 'reason'> {
  if (finding.valid && left > 0) {
    // A tenant that is off stays dead until it is turned on.
    const isParked = !previous.is_active && deadStatuses.includes(previous.status)
    if (isParked) return { status: previous.status, reason: previous.reason }
    const warning = WARNINGS.findLast(({ before }) => left <= before)
    return warning === undefined ? { status: 'ok', reason: null } : { status: 'expiring', reason: warning.reason }
  }
  const reason = finding.valid ? DATE_PASSED : finding.reason
  // This is the token of the previous finding: a new one would be `unverified`.
  if (deadStatuses.includes(previous.status)) return { status: isLater ? 'reauth_required' : previous.status, reason }
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

const warningLevel = (reason: string | null | undefined) => WARNINGS.findIndex((warning) => warning.reason === reason)
