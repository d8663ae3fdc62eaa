import type { Test } from 'tap'
import type { EnvSource } from '../../src/app.js'
import { createTokenScheduler } from '../../src/token-watch/scheduler.js'
import type { TenantEvent } from '../../src/events/events.js'
import type { Fault } from '../graph/faults.js'
import type { Grant } from '../graph/state.js'
import { buildTestApp, createDatabase, queries } from '../helper.js'
import { app as platform, standIn } from '../meta/wire.js'

export const DAY = 24 * 60 * 60 * 1000
export const HOUR = 60 * 60 * 1000
export const FIVE_MINUTES = 5 * 60 * 1000
export const S_PER_DAY = 24 * 60 * 60

/** Starts a Graph stand-in with the platform's app and a tenant's own app, and services that call it. */
export async function watch (t: Test) {
  const { meta } = await standIn(t)
  const own = meta.state.addApp({ app_id: '42' })
  const env = { GRAPH_API_BASE_URL: meta.url, FB_APP_ID: platform.id, FB_APP_SECRET: platform.secret }
  return {
    meta,
    own,
    issue: (grant: Partial<Grant> = {}) => meta.state.issueToken({ app_id: platform.id, ...grant }),
    /** The tokens of all debug_token calls, in order. */
    asked: () => meta.requests.flatMap(({ route, query }) => route === 'debug_token' ? [query['input_token']] : []),
    startService: async (t: Test, more: EnvSource = {}) => await startService(t, { ...env, ...more }),
    /** Clears all requests and faults of the stand-in. */
    reset (): void {
      meta.requests.length = 0
      meta.clearFaults()
    }
  }
}

/** Starts a service on its own database. Only `poll` checks due tokens: its own scheduler found none at its start. */
async function startService (t: Test, settings: EnvSource) {
  const DATABASE_URL = await createDatabase(t, { watched: true })
  const env = { ...settings, DATABASE_URL }
  const service = await buildTestApp(t, env)
  const { app, databaseUrl } = service
  const { tokenWatch, tenantConfigs, configLoader } = app
  const transitions: TenantEvent[] = []
  app.events.onEvent((transition) => { transitions.push(transition) })
  const sql = queries(t, databaseUrl)

  /** Polls once and checks all due tokens. */
  async function poll (): Promise<void> {
    const { database, vault, metaGraph, events, audit, log, env } = app
    const scheduler = createTokenScheduler({
      database,
      vault,
      metaGraph,
      tokenWatch,
      tenantConfigs,
      events,
      audit,
      interval: env.TOKEN_CHECK_INTERVAL_MS,
      concurrency: env.TOKEN_CHECK_CONCURRENCY,
      timeoutMs: env.GRAPH_TIMEOUT_MS,
      log
    })
    scheduler.start()
    await scheduler.closed()
    scheduler.close()
  }

  return {
    ...service,
    /** The settings, for another instance. */
    env,
    tokenWatch,
    tenantConfigs,
    configLoader,
    transitions,
    sql,
    poll,
    store: async (tenant: string, token: string, more: object = {}) => await tenantConfigs.create(
      tenant,
      null,
      { access_token: token, ...more }
    ),
    /** Makes every token due and checks them. */
    async pollAll (): Promise<void> {
      // Two failed checks within 5 minutes would count as one.
      await sql("update token_watch set next_check_at = now(), checked_at = checked_at - interval '1 hour'")
      await poll()
    },
    /** The health of a tenant's token; `wait` is the time until its next check, in ms. */
    async healthOf (tenant: string) {
      const { next_check_at: next, ...health } = await tokenWatch.healthOf(tenant) ?? { next_check_at: null }
      return { ...health, wait: Date.parse(String(next)) - Date.now() }
    }
  }
}

/** Asserts that a wait is within 20 s of the expected one. */
export const assertNear = (t: Test, wait: number, expected: number) => {
  t.ok(Math.abs(wait - expected) < 20_000, `${wait} ms is about ${expected} ms`)
}

/** The reply of debug_token for a valid token, with the usage headers of Meta. */
export function usageReply (percent: number, more: Record<string, string> = {}): Fault {
  const body = JSON.stringify({ data: { is_valid: true, app_id: platform.id, expires_at: 0 } })
  return {
    times: Infinity,
    reply: {
      status: 200,
      headers: { 'x-app-usage': JSON.stringify({ call_count: percent, total_time: 1, total_cputime: 1 }), ...more },
      body
    }
  }
}
