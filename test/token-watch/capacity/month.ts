import { failureDelay } from '../../../src/token-watch/retries.js'
import { endOf, isExpiring, type TokenFinding } from '../../../src/token-watch/state.js'
import { LANES } from '../../../src/token-watch/token-watch.sql.js'
import { createBucketQueues } from './bucket-queue.js'
import { DAY, HOUR, importedToken, seededRandom, storedToken } from './population.js'
import { createWatches, LEVELS } from './watches.js'

const START = Date.parse('2026-11-01T00:00:00Z')
const DAYS = 30
const STORED = 1_000_000
const IMPORTED = 200_000
const IMPORT_AT = START + 15 * DAY
const OUTAGE_AT = START + 20 * DAY + 7 * HOUR
const OUTAGE_ENDS = OUTAGE_AT + HOUR

/** The time of a call to Meta, which is the step of the clock. */
const CALL_MS = 300
const TICKS = DAYS * DAY / CALL_MS
/** The default of TOKEN_CHECK_CONCURRENCY. */
const WORKERS = 16
const POLL_TICKS = 30_000 / CALL_MS
/** The time of a call to Meta during the outage. */
const TIMEOUT_TICKS = Math.ceil(10_000 / CALL_MS)
export const LATEST_MS = 5 * 60 * 1000

/** Simulates a month of one process that checks a million tokens, and in the middle 200,000 more. */
export function simulateMonth () {
  const size = STORED + IMPORTED
  const random = seededRandom()
  const watches = createWatches(size)
  const queues = createBucketQueues(LANES.length, size, TICKS)
  const told = new Uint8Array(size * LEVELS.length)
  const firstCheck = new Float64Array(size).fill(Infinity)
  const checks = new Uint8Array(size)
  /** Workers that become free at a tick, by the tick modulo the length. */
  const freed = new Uint8Array(64)
  const report = { latest: 0, late: 0, early: 0, longestWait: 0, told }

  for (let id = 0; id < STORED; id++) {
    watches.add(id, storedToken(id, START, random), false)
    // The checks of the day before; what they told is not counted.
    let due = Math.round(START - random() * DAY)
    while (due < START) {
      firstCheck[id] = due
      due = record(id, due, false)
    }
    schedule(id, due)
  }
  run()
  return { ...report, expected, size, checksOf: (id: number) => checks[id] ?? 0, isPlain }

  /** Processes all ticks as the scheduler does: it polls every 30 s, and claims until no token is due. */
  function run (): void {
    let idle = WORKERS
    let pollAt = 0
    for (let tick = 0; tick < TICKS; tick++) {
      idle += freed[tick % freed.length] ?? 0
      freed[tick % freed.length] = 0
      if (tick === (IMPORT_AT - START) / CALL_MS) importTokens(tick)
      while (idle > 0 && tick >= pollAt) {
        const id = take(tick)
        if (id < 0) pollAt = tick + POLL_TICKS
        else {
          idle--
          const busy = check(id, START + tick * CALL_MS)
          freed[(tick + busy) % freed.length] = (freed[(tick + busy) % freed.length] ?? 0) + 1
        }
      }
    }
  }

  function take (tick: number): number {
    for (const lane of LANES.keys()) {
      const id = queues.pop(lane, tick)
      if (id >= 0) return id
    }
    return -1
  }

  function importTokens (tick: number): void {
    for (let id = STORED; id < size; id++) {
      const token = importedToken(id, IMPORT_AT, random)
      // As the trigger `token_watch_insert`, which knows the expiry alone.
      watches.add(id, token, token.expires < IMPORT_AT + 14 * DAY)
      queues.push(LANES.indexOf(watches.isDeadline(id)), id, tick)
    }
  }

  function schedule (id: number, dueAt: number): void {
    queues.push(LANES.indexOf(watches.isDeadline(id)), id, Math.max(0, Math.ceil((dueAt - START) / CALL_MS)))
  }

  /** Checks a token, and schedules its next check. Returns the ticks that it takes. */
  function check (id: number, now: number): number {
    checks[id] = (checks[id] ?? 0) + 1
    if (now >= OUTAGE_AT && now < OUTAGE_ENDS) {
      const failedAt = now + TIMEOUT_TICKS * CALL_MS
      const { left } = endOf(watches.endsOf(id), failedAt)
      const wait = Math.min(failureDelay(watches.isDeadline(id), DAY), left)
      schedule(id, left > 0 ? failedAt + wait : record(id, failedAt, true))
      return TIMEOUT_TICKS
    }
    // Beside the inspection, the extension of a token that is near its expiry, and the inspection of the new one.
    const inspectedAt = now + CALL_MS
    const isNear = watches.endOf(id) > inspectedAt && isExpiring(watches.expiryOf(id) - inspectedAt)
    const ticks = !isNear ? 1 : watches.isExtendable(id) ? 3 : 2
    if (isNear && watches.isExtendable(id)) watches.extend(id, now + 60 * DAY)
    const found = now + ticks * CALL_MS
    firstCheck[id] = Math.min(firstCheck[id] ?? Infinity, found)
    schedule(id, record(id, found, true))
    return ticks
  }

  /** Records what Meta says of a token at a time. Returns when its next check is due. */
  function record (id: number, now: number, isCounted: boolean): number {
    const isValid = watches.expiryOf(id) > now
    const { expires_at, data_access_ends_at } = watches.endsOf(id)
    const finding: TokenFinding = isValid
      ? { valid: true, expires_at, data_access_ends_at }
      : { valid: false, reason: 'meta_190_463' }
    const { told: level, nextCheck } = watches.record(id, finding, now)
    if (level !== null && isCounted) tell(id, level, now)
    return nextCheck
  }

  function tell (id: number, level: number, now: number): void {
    const index = id * LEVELS.length + level
    told[index] = (told[index] ?? 0) + 1
    const moment = watches.endOf(id) - (LEVELS[level] ?? 0)
    // Nothing can be told before the end of the token is known, nor during the outage.
    const known = id < STORED ? 0 : watches.hasDataAccessEnd(id) ? firstCheck[id] ?? 0 : IMPORT_AT
    const since = Math.max(moment, known)
    const isDelayed = since > OUTAGE_AT - LATEST_MS && since < OUTAGE_ENDS
    const late = now - (isDelayed ? OUTAGE_ENDS : since)
    report.latest = Math.max(report.latest, late)
    if (late > LATEST_MS) report.late++
    if (now < moment) report.early++
  }

  /** How often a level of a token is to be told until the last minutes of the month; null: that is not certain. */
  function expected (id: number, level: number): number | null {
    if (watches.isExtendable(id)) return 0
    const first = firstCheck[id] ?? Infinity
    const moment = watches.endOf(id) - (LEVELS[level] ?? 0)
    const following = level === LEVELS.length - 1 ? Infinity : watches.endOf(id) - (LEVELS[level + 1] ?? 0)
    if (moment > START + DAYS * DAY) return 0
    if (moment > START + DAYS * DAY - LATEST_MS) return null
    if (moment > first) return 1
    // The first check tells the level of that moment alone; that of a stored token is not counted.
    return id >= STORED && following > first ? 1 : 0
  }

  /** Whether a token is stored since before the month, and never ends, so that it is checked once a day. */
  function isPlain (id: number): boolean {
    return id < STORED && watches.endOf(id) === Infinity
  }
}
