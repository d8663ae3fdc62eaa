import { ConfigNotFound, TenantInactive, TokenDead } from '../errors.js'
import type { ConfigKey } from '../schemas/columns.js'
import { deadStatuses } from '../schemas/statuses.js'
import type { Env } from '../settings/env.js'
import type { Vault } from '../vault/vault.js'
import type { ConfigRow, SealedColumn } from './config-rows.sql.js'
import { ConfigSnapshot, eachValue, type ConfigValues, type Resolved } from './snapshot.js'

/** Why no row serves a tenant. */
export type NotServedReason = 'inactive' | 'missing'

/** The cached values of a tenant that has an active row. */
export interface ActiveConfig {
  readonly resolved: Resolved
  readonly snapshot: ConfigSnapshot
  /** The snapshot as a promise, created once. */
  readonly answer: Promise<ConfigSnapshot>
}

/** The cached values of a tenant, or why there are none. */
export type CachedConfig = ActiveConfig | NotServedReason

/** Wraps the values of a tenant for the cache. */
export function toCachedConfig (resolved: Resolved | NotServedReason): CachedConfig {
  if (typeof resolved === 'string') return resolved
  const snapshot = new ConfigSnapshot(resolved, false)
  return { resolved, snapshot, answer: Object.freeze(Promise.resolve(snapshot)) }
}

/** Whether an active row serves. */
export const isActive = (config: CachedConfig): config is ActiveConfig => typeof config === 'object'

/** The snapshot, marked as stale if it could not be confirmed. */
export const snapshotOf = ({ resolved, snapshot }: ActiveConfig, isStale: boolean) =>
  isStale ? new ConfigSnapshot(resolved, true) : snapshot

export type ConfigDecision = ReturnType<typeof createConfigDecision>

/** Decides which values serve a tenant: those of its row, those of `.env`, or none. */
export function createConfigDecision ({ vault, env }: { vault: Pick<Vault, 'open'>, env: Env }) {
  const fallback = fallbackValues(env)
  const fallbackSnapshot = new ConfigSnapshot(resolve(null, fallback), false)

  return {
    /** Returns the values of a row, or why it does not serve. Throws `SECRET_UNREADABLE`. */
    fromRow (row: ConfigRow | undefined): Resolved | NotServedReason {
      if (row === undefined) return 'missing'
      if (!row.is_active) return 'inactive'
      const tokenStatus = row.access_token === null ? null : row.token_status ?? 'unverified'
      const { tenant_id: tenantId, is_verified: isVerified } = row
      return resolve({ tenantId, isVerified, tokenStatus, values: openValues(row) }, fallback)
    },

    /** With `CONFIG_REFUSE_DEAD_TOKENS`, throws `TOKEN_DEAD` for a token that Meta no longer accepts. */
    assertTokenServes (snapshot: ConfigSnapshot): void {
      if (!env.CONFIG_REFUSE_DEAD_TOKENS) return
      const status = snapshot.getTokenStatus()
      if (status !== null && deadStatuses.includes(status)) throw new TokenDead()
    },

    /** Returns the `.env` values. Throws `TENANT_INACTIVE` and `CONFIG_NOT_FOUND` by `CONFIG_FALLBACK`. */
    withoutRow (reason: NotServedReason): ConfigSnapshot {
      if (reason === 'missing' && env.CONFIG_FALLBACK === 'none') throw new ConfigNotFound()
      if (reason === 'inactive' && env.CONFIG_FALLBACK !== 'missing-or-inactive') throw new TenantInactive()
      return fallbackSnapshot
    }
  }

  function openValues (row: ConfigRow): ConfigValues {
    const open = (column: SealedColumn) =>
      row[column] === null ? null : vault.open(row[column], row.tenant_id, column)
    return {
      phone_id: row.phone_number_id,
      access_token: open('access_token'),
      waba_id: row.waba_id,
      fb_app_id: row.fb_app_id,
      fb_app_secret: open('fb_app_secret'),
      callback_url: row.callback_url,
      redirect_url: row.redirect_url,
      verify_token: open('verify_token'),
      token_expires_at: row.token_expires_at
    }
  }
}

function fallbackValues (env: Env): ConfigValues {
  return {
    phone_id: env.WHATSAPP_PHONE_ID ?? null,
    access_token: env.WHATSAPP_TOKEN ?? null,
    waba_id: env.WHATSAPP_WABA_ID ?? null,
    fb_app_id: env.FB_APP_ID ?? null,
    fb_app_secret: env.FB_APP_SECRET ?? null,
    callback_url: env.CALLBACK_URL ?? null,
    redirect_url: env.REDIRECT_URL ?? null,
    verify_token: env.VERIFY_TOKEN ?? null,
    token_expires_at: null
  }
}

/**
 * How each value falls back to `.env`: the app as a pair, the identity as a whole, the others alone. An identity in
 * parts could pair a tenant's number with the platform's token.
 */
const fallsBack = {
  phone_id: 'identity',
  access_token: 'identity',
  waba_id: 'identity',
  fb_app_id: 'app',
  fb_app_secret: 'app',
  callback_url: 'alone',
  redirect_url: 'alone',
  verify_token: 'alone',
  token_expires_at: 'identity'
} satisfies Record<ConfigKey, 'identity' | 'app' | 'alone'>

/** Merges the values of an active row, in clear (null: no such row), with those of `.env`. */
export function resolve (
  row: Pick<Resolved, 'isVerified' | 'tokenStatus' | 'values'> & { tenantId: string } | null, fallback: ConfigValues
): Resolved {
  const own = row?.values
  const hasApp = own?.fb_app_id != null && own.fb_app_secret !== null
  const sourceOf = (key: ConfigKey) => {
    if (own === undefined || fallsBack[key] === 'identity') return own ?? fallback
    const isOwn = fallsBack[key] === 'app' ? hasApp : own[key] !== null
    return isOwn ? own : fallback
  }
  const value = (key: ConfigKey) => sourceOf(key)[key]
  return Object.freeze({
    tenantId: row?.tenantId ?? null,
    isVerified: row?.isVerified ?? false,
    tokenStatus: row?.tokenStatus ?? null,
    values: eachValue(value),
    sources: eachValue((key) => value(key) === null ? null : sourceOf(key) === own ? 'database' : 'env')
  })
}
