import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { LRUCache } from 'lru-cache'

/** How near the limits of Meta's an app is, or one of its subjects: a WABA or a business, each of which has limits of its own. */
export interface Usage {
  /** The highest share in use of any limit, 0 to 100; 0 when Meta said nothing within the last hour. */
  percent: number
  /** Unix ms before which no call should be made; 0 when any may be. */
  regain_at: number
}

const MINUTE_MS = 60_000
// Meta counts over a rolling hour.
const WINDOW_MS = 60 * MINUTE_MS
const BACK_OFF_MS = 5 * MINUTE_MS
// No wait that Meta names is longer; a larger number is a mistake, and must not silence anybody for good.
const LONGEST_WAIT_MS = 24 * 60 * MINUTE_MS
// Of all apps together, each app counting as one.
const MAX_SUBJECTS = 10_000

const Numbers = Type.Record(Type.String(), Type.Unknown())
const Accounts = Type.Record(Type.String(), Type.Array(Numbers))
/** What stands for the app itself among its subjects. */
const APP = null

/**
 * Remembers what the answers of the Graph API say of the limits they count against.
 * Source: developers.facebook.com/docs/graph-api/overview/rate-limiting
 */
export function createUsage () {
  const shares = new LRUCache<string, number>({ max: MAX_SUBJECTS, ttl: WINDOW_MS, ttlResolution: 0, perf: Date })
  const regains = new LRUCache<string, number>({ max: MAX_SUBJECTS })

  return {
    /** Notes the headers of an answer to an app, and whose limit it was refused for, if for any. Never throws. */
    note (appId: string, headers: Headers, limit: 'account' | 'app' | null): void {
      const ofApp = json(headers.get('x-app-usage'))
      const ofAccounts = json(headers.get('x-business-use-case-usage'))
      const seen: Array<[subject: string | null, usages: Array<Record<string, unknown>>]> = []
      if (Value.Check(Accounts, ofAccounts)) seen.push(...Object.entries(ofAccounts))
      if (Value.Check(Numbers, ofApp)) seen.push([APP, [ofApp]])

      const waiting = seen.filter(([subject, usages]) => {
        shares.set(key(appId, subject), Math.max(0, ...usages.map(share)))
        return hold(appId, subject, Math.max(0, ...usages.map(wait)))
      })
      // Meta does not say which account a refusal is about, but by the time it has to wait.
      const isNamed = waiting.some(([subject]) => limit === 'account' || subject === APP)
      if (limit !== null && !isNamed) hold(appId, APP, BACK_OFF_MS)
    },

    /** How near its limits an app is, by what its latest answers said; with a subject, such as a WABA's id, the nearer of both. */
    of (appId: string, subject: string | null = APP): Usage {
      const keys = [APP, subject].map((subject) => key(appId, subject))
      const regainAt = Math.max(...keys.map((key) => regains.get(key) ?? 0))
      return { percent: Math.max(...keys.map((key) => shares.get(key) ?? 0)), regain_at: regainAt > Date.now() ? regainAt : 0 }
    }
  }

  /** Has no call made for so many milliseconds; an earlier, longer wait stays. Returns whether there is one to wait for. */
  function hold (appId: string, subject: string | null, ms: number): boolean {
    const at = key(appId, subject)
    if (ms > 0) regains.set(at, Math.max(regains.get(at) ?? 0, Date.now() + ms))
    return ms > 0
  }
}

const key = (appId: string, subject: string | null) => JSON.stringify([appId, subject])

function wait ({ estimated_time_to_regain_access: minutes }: Record<string, unknown>): number {
  return within(minutes, LONGEST_WAIT_MS / MINUTE_MS) * MINUTE_MS
}

function share ({ call_count, total_time, total_cputime }: Record<string, unknown>): number {
  return Math.max(...[call_count, total_time, total_cputime].map((value) => within(value, 100)))
}

/** A number from 0 to `max`, whatever Meta wrote. */
function within (value: unknown, max: number): number {
  return typeof value === 'number' && value > 0 ? Math.min(value, max) : 0
}

function json (header: string | null): unknown {
  try {
    return header === null ? undefined : JSON.parse(header)
  } catch {
    return undefined
  }
}
