import type { Test } from 'tap'
import type { EnvSource } from '../../src/app.js'
import type { TenantEvent } from '../../src/events/events.js'
import { buildTestApp, createDatabase, query } from '../helper.js'

/** Findings: a valid token without an expiry, and a revoked one. */
export const unlimited = { valid: true, expires_at: null } as const
export const revoked = { valid: false, reason: 'meta_190_460' } as const

export const DAY = 24 * 60 * 60 * 1000
export const inTime = (ms: number) => new Date(Date.now() + ms).toISOString()

/** Selects the watches of all tokens. */
export const selectWatches = `select tenant_id, status, reason, reported, checked_at is not null as checked,
    next_check_at <= now() as due
  from token_watch order by tenant_id`

/** Starts a service whose scheduler checks no token, and records its transitions. */
export async function startService (t: Test, env: EnvSource = {}) {
  // Only the test checks tokens: the first poll of the scheduler finds none, and the next one is after the test.
  const service = await buildTestApp(t, { DATABASE_URL: await createDatabase(t, { watched: true }), ...env })
  const { app: { tenantConfigs, tokenWatch, configLoader }, databaseUrl } = service
  const transitions: TenantEvent[] = []
  service.app.events.onEvent((transition) => { transitions.push(transition) })
  return {
    ...service,
    tenantConfigs,
    tokenWatch,
    configLoader,
    transitions,
    sql: async (text: string, values: unknown[] = []) => await query(databaseUrl, text, values),
    /** Stores a token for the tenant; returns its ciphertext. */
    async store (tenant: string, token = 'a token', expiresAt: string | null = null): Promise<string> {
      const input = { access_token: token, token_expires_at: expiresAt }
      const row = await tenantConfigs.find(tenant) === null
        ? await tenantConfigs.create(tenant, null, input)
        : await tenantConfigs.update(tenant, input)
      return String(row.access_token)
    }
  }
}
