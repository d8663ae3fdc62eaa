import { deadStatuses, type TokenStatus } from '../schemas/statuses.js'
import { tokenStatuses } from '../schemas/statuses.js'

/** What was found of a token: valid until a moment (ISO 8601, null: for ever), or not, and by which sign. */
export type TokenFinding = { valid: true, expires_at: string | null } | { valid: false, reason: string }

/** What was known before a finding: when the stored token expires, its status, why and since which look (ISO 8601), what was last told of the tenant, and whether that is active. */
export interface PreviousState { expires_at: string | null, status: TokenStatus, reason: string | null, checked_at: string | null, reported: string | null, is_active: boolean }

export interface NextState {
  status: TokenStatus
  reason: string | null
  /** What is told from now on. */
  reported: string | null
  /** The event to report, and the status it leads away from; null for none. */
  event: { type: string, from: TokenStatus } | null
  /** When to look again, as Unix milliseconds. */
  next_check: number
}

const MINUTE_MS = 60 * 1000
const DAY_MS = 24 * 60 * MINUTE_MS
/** Two looks that are closer than this say no more than one. */
const RECHECK_MS = 5 * MINUTE_MS

// The furthest first: nearness is the place in this list.
const WARNINGS = [
  { before: 14 * DAY_MS, reason: 'expires_within_14_days' },
  { before: 7 * DAY_MS, reason: 'expires_within_7_days' },
  { before: DAY_MS, reason: 'expires_within_1_day' }
]

/** The reason of a token that its own date says is over, when Meta does not say so. */
export const DATE_PASSED = 'date_passed'

/** Whether so many milliseconds before its end a token is to be extended. */
export const isExpiring = (left: number) => WARNINGS.some(({ before }) => left <= before)

/** Milliseconds until the expiry (ISO 8601) of a token; Infinity without one, negative when it has passed. */
export function timeLeft (expiresAt: string | null, now: number): number {
  return expiresAt === null ? Infinity : Date.parse(expiresAt) - now
}

/**
 * Judges what was found of a token at `now` (Unix milliseconds), to be looked at every `interval` milliseconds, at each
 * moment at which a warning is due and, while it is expiring, whenever half of what is left has gone by: it may be extended then.
 */
export function nextState (finding: TokenFinding, previous: PreviousState, now: number, interval: number): NextState {
  const left = timeLeft(finding.valid ? finding.expires_at : previous.expires_at, now)
  const isLater = previous.checked_at === null || now - Date.parse(previous.checked_at) >= Math.min(interval, RECHECK_MS)
  const { status, reason } = statusOf(finding, left, previous, isLater)
  const half = status === 'expiring' ? Math.max(left / 2, MINUTE_MS) : Infinity
  const moments = [...WARNINGS.map(({ before }) => left - before), left, half].filter((wait) => wait > 0)
  return { status, reason, ...toReport(status, reason, previous), next_check: now + Math.min(interval, ...moments) }
}

function statusOf (finding: TokenFinding, left: number, known: PreviousState, isLater: boolean): Pick<NextState, 'status' | 'reason'> {
  if (finding.valid && left > 0) {
    // Why a tenant was turned off stands until it is turned on again.
    if (!known.is_active && deadStatuses.includes(known.status)) return { status: known.status, reason: known.reason }
    const warning = WARNINGS.findLast(({ before }) => left <= before)
    return warning === undefined ? { status: 'ok', reason: null } : { status: 'expiring', reason: warning.reason }
  }
  const reason = finding.valid ? DATE_PASSED : finding.reason
  // A new token turns the status to `unverified`, so this is the same one as before.
  if (deadStatuses.includes(known.status)) return { status: isLater ? 'reauth_required' : known.status, reason }
  // 463 is Meta's word for "expired"; it counts where no date says otherwise.
  const isOver = left <= 0 || (known.expires_at === null && reason === 'meta_190_463')
  return { status: isOver ? 'expired' : 'revoked', reason }
}

function toReport (status: TokenStatus, reason: string | null, { status: before, reported }: PreviousState): Pick<NextState, 'reported' | 'event'> {
  const [word, warned] = reported?.split(':') ?? []
  const told = tokenStatuses.find((known) => known === word)
  const report = { type: `token.${status === 'ok' ? 'recovered' : status}`, from: told ?? before }
  if (status === 'ok') {
    return told === undefined || told === 'ok' ? { reported, event: null } : { reported: status, event: report }
  }
  const isNews = told !== status || warningLevel(reason) > warningLevel(warned)
  return { reported: status === 'expiring' ? `${status}:${reason}` : status, event: isNews ? report : null }
}

const warningLevel = (reason: string | null | undefined) => WARNINGS.findIndex((warning) => warning.reason === reason)
