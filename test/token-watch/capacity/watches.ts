import type { TokenStatus } from '../../../src/schemas/statuses.js'
import { nextState, type TokenEnds, type TokenFinding } from '../../../src/token-watch/state.js'
import { DAY, type SimulatedToken } from './population.js'

/** The warnings and the end, by the time before the end of the token. */
export const LEVELS = [14 * DAY, 7 * DAY, DAY, 0]
const REASONS = ['within_14_days', 'within_7_days', 'within_1_day']

const isDead = (status: TokenStatus | undefined) => status === 'expired' || status === 'reauth_required'
const iso = (time: number) => time === Infinity ? null : new Date(time).toISOString()

/** The tokens of a simulation, each with what `token_watch` has of it. */
export function createWatches (size: number) {
  const expires = new Float64Array(size).fill(Infinity)
  const dataAccessEnds = new Float64Array(size).fill(Infinity)
  // The same as text: to format it at each check would take most of the time.
  const expiresAt: Array<string | null> = Array.from({ length: size }, () => null)
  const dataAccessEndsAt: Array<string | null> = Array.from({ length: size }, () => null)
  const extendable = new Uint8Array(size)
  const deadlines = new Uint8Array(size)
  const checkedAt = new Float64Array(size)
  const statuses: TokenStatus[] = Array.from({ length: size }, () => 'unverified')
  const reported: Array<string | null> = Array.from({ length: size }, () => null)

  return {
    add (id: number, token: SimulatedToken, isDeadline: boolean): void {
      expires[id] = token.expires
      dataAccessEnds[id] = token.dataAccessEnds
      expiresAt[id] = iso(token.expires)
      dataAccessEndsAt[id] = iso(token.dataAccessEnds)
      extendable[id] = Number(token.isExtendable)
      deadlines[id] = Number(isDeadline)
    },
    isExtendable: (id: number) => extendable[id] === 1,
    isDeadline: (id: number) => deadlines[id] === 1,
    expiryOf: (id: number) => expires[id] ?? Infinity,
    endOf: (id: number) => Math.min(expires[id] ?? Infinity, dataAccessEnds[id] ?? Infinity),
    hasDataAccessEnd: (id: number) => dataAccessEnds[id] !== Infinity,
    endsOf,

    /** Replaces a token by one that expires later. */
    extend (id: number, expiry: number): void {
      expires[id] = expiry
      expiresAt[id] = iso(expiry)
      statuses[id] = 'unverified'
    },

    /** Records a finding as the service does. Returns the level that was told, if any, and the next check. */
    record (id: number, finding: TokenFinding, now: number): { told: number | null, nextCheck: number } {
      const next = nextState(finding, {
        expires_at: expiresAt[id] ?? null,
        data_access_ends_at: dataAccessEndsAt[id] ?? null,
        status: statuses[id] ?? 'unverified',
        reason: null,
        // Only the state of a dead token depends on it.
        checked_at: isDead(statuses[id]) ? iso(checkedAt[id] ?? 0) : null,
        reported: reported[id] ?? null,
        is_active: true
      }, now, DAY)
      statuses[id] = next.status
      reported[id] = next.reported
      checkedAt[id] = now
      deadlines[id] = Number(next.is_deadline)
      const level = next.status === 'expired' ? 3 : REASONS.findIndex((reason) => next.reason?.endsWith(reason))
      if (next.event?.type === 'token.recovered') throw new Error('no token of the simulation recovers')
      const isWarning = next.event !== null && next.event.type !== 'token.reauth_required'
      return { told: isWarning ? level : null, nextCheck: next.next_check }
    }
  }

  function endsOf (id: number): TokenEnds {
    return { expires_at: expiresAt[id] ?? null, data_access_ends_at: dataAccessEndsAt[id] ?? null }
  }
}
