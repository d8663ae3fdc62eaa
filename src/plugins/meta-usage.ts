import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { LRUCache } from 'lru-cache'

/** How near the limits of Meta's an app is. */
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
// No wait that Meta names is longer; a larger number is a mistake, and must not silence an app for good.
const LONGEST_WAIT_MS = 24 * 60 * MINUTE_MS
const MAX_APPS = 1000
// One answer speaks of at most 32 accounts, and of the app.
const MAX_SUBJECTS = 100

const Numbers = Type.Record(Type.String(), Type.Unknown())
const Accounts = Type.Record(Type.String(), Type.Array(Numbers))
const APP = ''

/**
 * Remembers what the answers of the Graph API say of the limits they count against.
 * Source: developers.facebook.com/docs/graph-api/overview/rate-limiting
 */
export function createUsage () {
  const apps = new LRUCache<string, { shares: LRUCache<string, number>, regainAt: number }>({ max: MAX_APPS })

  return {
    /** Notes the headers of an answer to an app, and whether that answer was a refusal for a limit. Never throws. */
    note (appId: string, headers: Headers, limited: boolean): void {
      const ofApp = json(headers.get('x-app-usage'))
      const ofAccounts = json(headers.get('x-business-use-case-usage'))
      const seen: [string, Record<string, unknown>[]][] = []
      if (Value.Check(Numbers, ofApp)) seen.push([APP, [ofApp]])
      if (Value.Check(Accounts, ofAccounts)) seen.push(...Object.entries(ofAccounts))
      if (seen.length === 0 && !limited) return

      const app = apps.get(appId) ?? { shares: new LRUCache<string, number>({ max: MAX_SUBJECTS, ttl: WINDOW_MS, ttlResolution: 0, perf: Date }), regainAt: 0 }
      for (const [subject, usages] of seen) app.shares.set(subject, Math.max(0, ...usages.map(share)))
      const waits = seen.flatMap(([, usages]) => usages.map((usage) => within(usage['estimated_time_to_regain_access'], LONGEST_WAIT_MS / MINUTE_MS)))
      const wait = Math.max(0, ...waits) * MINUTE_MS || (limited ? BACK_OFF_MS : 0)
      if (wait > 0) app.regainAt = Math.max(app.regainAt, Date.now() + wait)
      apps.set(appId, app)
    },

    /** How near its limits an app is, by what its latest answers said. */
    of (appId: string): Usage {
      const app = apps.get(appId)
      if (app === undefined) return { percent: 0, regain_at: 0 }
      return { percent: Math.max(0, ...app.shares.values()), regain_at: app.regainAt > Date.now() ? app.regainAt : 0 }
    }
  }
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
