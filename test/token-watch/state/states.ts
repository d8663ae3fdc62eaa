import { nextState, type PreviousState, type TokenFinding } from '../../../src/token-watch/state.js'

export const NOW = Date.parse('2026-11-23T12:00:00Z')
export const MINUTE = 60 * 1000
export const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR
export const inTime = (ms: number) => new Date(NOW + ms).toISOString()
export const valid = (left: number | null): TokenFinding =>
  ({ valid: true, expires_at: left === null ? null : inTime(left) })
export const invalid = (reason = 'meta_190_460'): TokenFinding => ({ valid: false, reason })
export const previousState = (fields: Partial<PreviousState> = {}): PreviousState => ({
  expires_at: null,
  data_access_ends_at: null,
  status: 'unverified',
  reason: null,
  checked_at: null,
  reported: null,
  is_active: true,
  ...fields
})

/** A valid token with so many milliseconds until its expiry, and until its access to data ends. */
export const bounded = (left: number | null, dataAccess: number | null): TokenFinding => ({
  valid: true,
  expires_at: left === null ? null : inTime(left),
  data_access_ends_at: dataAccess === null ? null : inTime(dataAccess)
})

/** Applies findings to the state of one tenant and returns the events. */
export function transitionsOf (...findings: Array<TokenFinding | 'new token'>): string[] {
  let previous = previousState()
  return findings.flatMap((finding) => {
    if (finding === 'new token') {
      previous = previousState({ reported: previous.reported })
      return []
    }
    const { status, reason, reported, event } = nextState(finding, previous, NOW, DAY)
    previous = { ...previous, expires_at: finding.valid ? finding.expires_at : previous.expires_at, status, reported }
    return event === null ? [] : [`${event.from} ${event.type} ${reason}`]
  })
}
