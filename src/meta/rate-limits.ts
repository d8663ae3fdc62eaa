import { createHash } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { LRUCache } from 'lru-cache'
import type { LimitScope } from './error-map.js'
import { Amount, read } from './replies.js'

/** The utilization of Meta's limits by an app, or by an account under it: a WABA or a business. */
export interface Utilization {
  /** That of the most used limit, 0 to 100; 0 when no answer of the last hour has one. */
  percent: number
  /** The end of the block (Unix ms); 0 without one. */
  blockedUntil: number
}

/** The app, account and credential that Meta counts a call against. */
export interface LimitSubject {
  /** Id of the app that makes the call; undefined for a token whose app is unknown. */
  app?: string | undefined
  /** The WABA of the call. */
  account?: string | undefined
  /** The customer's token, or the code of a login. */
  credential?: string | undefined
}

const MINUTE_MS = 60_000
// Meta counts over a rolling hour.
const WINDOW_MS = 60 * MINUTE_MS
const DEFAULT_BLOCK_MS = 5 * MINUTE_MS
// Meta names no longer wait. A larger number is a mistake, and must not block a subject for good.
const MAX_BLOCK_MS = 24 * 60 * MINUTE_MS
const MAX_APPS = 10_000
// Accounts and tokens of all apps together.
const MAX_SUBJECTS = 10_000

const Numbers = Type.Record(Type.String(), Type.Unknown())
const Accounts = Type.Record(Type.String(), Type.Array(Numbers))

/**
 * Keeps the utilization and the blocks that answers of the Graph API report.
 * Source: developers.facebook.com/docs/graph-api/overview/rate-limiting
 */
export function createRateLimits () {
  const window = { ttl: WINDOW_MS, ttlResolution: 0, perf: Date }
  const appUtilizations = new LRUCache<string, number>({ max: MAX_APPS, ...window })
  const accountUtilizations = new LRUCache<string, number>({ max: MAX_SUBJECTS, ...window })
  // A cache of its own: a flood of tokens or accounts must not evict the block of an app.
  const blockedApps = new LRUCache<string, number>({ max: MAX_APPS })
  const blockedSubjects = new LRUCache<string, number>({ max: MAX_SUBJECTS })

  return {
    /**
     * Records the headers of an answer, and the limit that refused it (null: none). Without an app all of it counts for
     * the credential. Never throws.
     */
    record ({ app, account, credential }: LimitSubject, headers: Headers, limit: LimitScope | null): void {
      const header = parseHeader(headers.get('x-business-use-case-usage'))
      const ofAccounts = Value.Check(Accounts, header) ? Object.entries(header) : []
      const named = longestWait(ofAccounts.flatMap(([, usages]) => usages))
      const blockSubject = (key: string) => { blockFor(blockedSubjects, key, named || DEFAULT_BLOCK_MS) }
      const blockToken = () => { if (credential !== undefined) blockSubject(tokenKey(credential)) }
      if (app === undefined) {
        if (limit !== null) blockToken()
        return
      }

      for (const [id, usages] of ofAccounts) {
        accountUtilizations.set(accountKey(app, id), highest(usages))
        blockFor(blockedSubjects, accountKey(app, id), longestWait(usages))
      }
      const ofApp = parseHeader(headers.get('x-app-usage'))
      const appWait = Value.Check(Numbers, ofApp) ? longestWait([ofApp]) : 0
      if (Value.Check(Numbers, ofApp)) appUtilizations.set(app, highest([ofApp]))
      blockFor(blockedApps, app, limit === 'app' ? appWait || DEFAULT_BLOCK_MS : appWait)
      // The header may name a business in place of the WABA of the call.
      if (limit === 'account' && account !== undefined) blockSubject(accountKey(app, account))
      else if (limit === 'account' || limit === 'token') blockToken()
    },

    /** Returns the utilization by the latest answers; with an account, the higher of both. */
    utilizationOf (app: string, account?: string | null): Utilization {
      const ofAccount = account == null ? undefined : accountUtilizations.get(accountKey(app, account))
      return {
        percent: Math.max(appUtilizations.get(app) ?? 0, ofAccount ?? 0),
        blockedUntil: blockedUntil({ app, account: account ?? undefined })
      }
    },

    /** The highest utilization of any app, and of any account; 0 when no answer of the last hour has one. */
    highestUtilizations: () => ({
      app: Math.max(0, ...appUtilizations.values()),
      account: Math.max(0, ...accountUtilizations.values())
    }),

    blockedUntil,

    /** The ids of the blocked apps. */
    blockedApps: (): string[] => [...blockedApps.keys()].filter((app) => blockedUntil({ app }) > 0)
  }

  /** Returns the end of the block of such a call (Unix ms); 0 without one. */
  function blockedUntil ({ app, account, credential }: LimitSubject): number {
    const until = Math.max(
      app === undefined ? 0 : blockedApps.get(app) ?? 0,
      app === undefined || account === undefined ? 0 : blockedSubjects.get(accountKey(app, account)) ?? 0,
      credential === undefined ? 0 : blockedSubjects.get(tokenKey(credential)) ?? 0
    )
    return until > Date.now() ? until : 0
  }
}

/** Blocks for `ms` milliseconds; a block that ends later stays. */
function blockFor (cache: LRUCache<string, number>, key: string, ms: number): void {
  if (ms > 0) cache.set(key, Math.max(cache.get(key) ?? 0, Date.now() + ms))
}

const accountKey = (app: string, account: string) => JSON.stringify([app, account])
const tokenKey = (credential: string) => createHash('sha256').update(credential).digest('base64url')

function longestWait (usages: Array<Record<string, unknown>>): number {
  return Math.max(0, ...usages.map(waitMs))
}

function highest (usages: Array<Record<string, unknown>>): number {
  return Math.max(0, ...usages.map(utilization))
}

/** Milliseconds to wait: those that Meta names, else the default at 100 %. */
function waitMs (usage: Record<string, unknown>): number {
  const minutes = clamp(usage['estimated_time_to_regain_access'], MAX_BLOCK_MS / MINUTE_MS)
  return minutes * MINUTE_MS || (utilization(usage) >= 100 ? DEFAULT_BLOCK_MS : 0)
}

function utilization ({ call_count, total_time, total_cputime }: Record<string, unknown>): number {
  return Math.max(...[call_count, total_time, total_cputime].map((value) => clamp(value, 100)))
}

/** A number from 0 to `max`, also from a text of digits; 0 for any value that is none. */
function clamp (value: unknown, max: number): number {
  const amount = typeof value === 'number' ? value : read(Amount, value) ?? 0
  return Math.min(Math.max(amount, 0), max)
}

function parseHeader (header: string | null): unknown {
  try {
    return header === null ? undefined : JSON.parse(header)
  } catch {
    return undefined
  }
}
