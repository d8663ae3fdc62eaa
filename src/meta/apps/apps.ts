import type { TenantConfigRow } from '../../database/schema/tenant-configs.js'
import { MetaAppNotConfigured } from '../../errors.js'
import type { Vault } from '../../vault/vault.js'
import type { MetaApp } from '../types.js'

/** Finds the app of a tenant at Meta. `platformApp` is the app of tenants that store none of their own. */
export function createApps ({ vault, platformApp }: { vault: Pick<Vault, 'open'>, platformApp?: MetaApp | undefined }) {
  return {
    /** The id of the platform's app; undefined without one. */
    platformAppId: platformApp?.id,

    /** The app of a row, or of a tenant without one. Throws `META_APP_NOT_CONFIGURED`, `SECRET_UNREADABLE`. */
    appOf (row: Pick<TenantConfigRow, 'tenant_id' | 'fb_app_id' | 'fb_app_secret'> | null): MetaApp {
      if (row?.fb_app_id && row.fb_app_secret) {
        return { id: row.fb_app_id, secret: vault.open(row.fb_app_secret, row.tenant_id, 'fb_app_secret') }
      }
      if (!platformApp) throw new MetaAppNotConfigured()
      return platformApp
    }
  }
}
