import { ConfigSnapshot, resolve, type ConfigValues, type Resolved } from './snapshot.js'
import type { ConfigRow, SealedColumn } from './config-rows.sql.js'
import { deadStatuses } from '../database/schema.js'
import { ConfigNotFound, TenantInactive, TokenDead } from '../errors.js'
import type { Env } from '../settings/env.js'
import type { Vault } from '../vault/vault.js'

/** Why no row serves a tenant. */
export type NotServedReason = 'inactive' | 'missing'

export type ConfigDecision = ReturnType<typeof createConfigDecision>

/** Decides what serves a tenant: the values of its row, those of `.env`, or nothing. */
export function createConfigDecision ({ vault, env }: { vault: Pick<Vault, 'open'>, env: Env }) {
  const fallback = fallbackValues(env)
  const fallbackSnapshot = new ConfigSnapshot(resolve(null, fallback), false)

  function openedValues (row: ConfigRow): ConfigValues {
    const open = (column: SealedColumn) => row[column] === null ? null : vault.open(row[column], row.tenant_id, column)
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

  return {
    /** Takes the row of a tenant; returns what serves by it, or why it does not. Throws `SECRET_UNREADABLE`. */
    fromRow (row: ConfigRow | undefined): Resolved | NotServedReason {
      if (row === undefined) return 'missing'
      if (!row.is_active) return 'inactive'
      const tokenStatus = row.access_token === null ? null : row.token_status ?? 'unverified'
      return resolve({ tenantId: row.tenant_id, isVerified: row.is_verified, tokenStatus, values: openedValues(row) }, fallback)
    },

    /** Throws `TOKEN_DEAD` for the snapshot of a row whose token can send nothing, where `CONFIG_REFUSE_DEAD_TOKENS` says so. */
    assertTokenServes (snapshot: ConfigSnapshot): void {
      if (!env.CONFIG_REFUSE_DEAD_TOKENS) return
      const status = snapshot.getTokenStatus()
      if (status !== null && deadStatuses.includes(status)) throw new TokenDead()
    },

    /** Returns what serves a tenant that no row serves. Throws `TENANT_INACTIVE` and `CONFIG_NOT_FOUND` where `CONFIG_FALLBACK` says so. */
    withoutRow (absence: NotServedReason): ConfigSnapshot {
      if (absence === 'missing' && env.CONFIG_FALLBACK === 'none') throw new ConfigNotFound()
      if (absence === 'inactive' && env.CONFIG_FALLBACK !== 'missing-or-inactive') throw new TenantInactive()
      return fallbackSnapshot
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
