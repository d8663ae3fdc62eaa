import { ConfigNotFound, TenantInactive, TokenDead } from '../errors.js'
import type { ConfigKey } from '../schemas/columns.js'
import { deadStatuses } from '../schemas/statuses.js'
import type { Env } from '../settings/env.js'
import type { Vault } from '../vault/vault.js'
import type { ConfigRow } from './config-rows.sql.js'
import { ConfigSnapshot, eachValue, type ConfigSources, type ConfigValues, type Resolved } from './snapshot.js'

/** Why no row serves a tenant. */
export type NotServedReason = 'inactive' | 'missing'

/** The cached value of a tenant: the snapshot of its active row, or why there is none. */
export type CachedConfig = ConfigSnapshot | NotServedReason

/** Whether an active row serves. */
export const isActive = (config: CachedConfig): config is ConfigSnapshot => typeof config === 'object'

export type ConfigDecision = ReturnType<typeof createConfigDecision>

/** Decides which values serve a tenant: those of its row, those of `.env`, or none. */
export function createConfigDecision ({ vault, env }: { vault: Pick<Vault, 'open'>, env: Env }) {
  const fallback = fallbackValues(env)
  const fallbackSnapshot = new ConfigSnapshot(resolve(null, fallback, vault.open), false)

  return {
    /**
     * Returns the configuration of a row, or why it does not serve.
     *
     * @throws `SECRET_UNREADABLE` for the access token; the snapshot opens the other secrets
     */
    fromRow (row: ConfigRow | undefined): CachedConfig {
      if (row === undefined) return 'missing'
      if (!row.is_active) return 'inactive'
      const tokenStatus = row.access_token === null ? null : row.token_status ?? 'unverified'
      const { tenant_id: tenantId, is_verified: isVerified } = row
      const own = { tenantId, isVerified, tokenStatus, values: valuesOf(row) }
      return new ConfigSnapshot(resolve(own, fallback, vault.open), false)
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

  function valuesOf (row: ConfigRow): ConfigValues {
    return {
      phone_id: row.phone_number_id,
      access_token: row.access_token === null ? null : vault.open(row.access_token, row.tenant_id, 'access_token'),
      waba_id: row.waba_id,
      fb_app_id: row.fb_app_id,
      fb_app_secret: row.fb_app_secret,
      callback_url: row.callback_url,
      redirect_url: row.redirect_url,
      verify_token: row.verify_token,
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

/** Merges the values of an active row (null: no such row) with those of `.env`. `open` opens the secrets of the row. */
export function resolve (
  row: Pick<Resolved, 'isVerified' | 'tokenStatus' | 'values'> & { tenantId: string } | null,
  fallback: ConfigValues, open: Resolved['open']
): Resolved {
  const own = row?.values
  const hasApp = own?.fb_app_id != null && own.fb_app_secret !== null
  const sourceOf = (key: ConfigKey) => {
    if (own === undefined || fallsBack[key] === 'identity') return own ?? fallback
    const isOwn = fallsBack[key] === 'app' ? hasApp : own[key] !== null
    return isOwn ? own : fallback
  }
  const value = (key: ConfigKey) => sourceOf(key)[key]
  const source = (key: ConfigKey) => value(key) === null ? null : sourceOf(key) === own ? 'database' : 'env'
  return {
    tenantId: row?.tenantId ?? null,
    isVerified: row?.isVerified ?? false,
    tokenStatus: row?.tokenStatus ?? null,
    values: eachValue(value),
    sources: sharedSources(source),
    open
  }
}

const keys = Object.keys(fallsBack) as ConfigKey[]
const possibleSources = [null, 'database', 'env'] as const
const sourcesByCode = new Map<number, ConfigSources>()

/** Returns the same object for equal sources: there are few of them, and many tenants. */
function sharedSources (source: (key: ConfigKey) => ConfigSources[ConfigKey]): ConfigSources {
  // A digit for each key, to the base of the three sources.
  const code = keys.reduce((code, key) => code * 3 + possibleSources.indexOf(source(key)), 0)
  const known = sourcesByCode.get(code)
  if (known !== undefined) return known
  const sources = eachValue(source)
  sourcesByCode.set(code, sources)
  return sources
}
