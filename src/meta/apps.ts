import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { MetaAppNotConfigured } from '../errors.js'
import type { MetaApp } from './meta-graph.js'
import type { TenantConfigRow } from '../tenant-configs/tenant-configs.js'
import type { Vault } from '../vault/vault.js'

declare module 'fastify' {
  interface FastifyInstance { metaApps: MetaApps }
}

export type MetaApps = ReturnType<typeof createMetaApps>

/** Which app of Meta's a tenant goes through. `platformApp` serves tenants who store none of their own. */
export function createMetaApps ({ vault, platformApp }: { vault: Pick<Vault, 'open'>, platformApp?: MetaApp | undefined }) {
  return {
    /** The id of the platform's app; undefined without one. */
    platformId: platformApp?.id,

    /** The app of a row, or of a tenant without one. Throws `META_APP_NOT_CONFIGURED`, `SECRET_UNREADABLE`. */
    of (row: Pick<TenantConfigRow, 'tenant_id' | 'fb_app_id' | 'fb_app_secret'> | null): MetaApp {
      if (row?.fb_app_id && row.fb_app_secret) {
        return { id: row.fb_app_id, secret: vault.open(row.fb_app_secret, row.tenant_id, 'fb_app_secret') }
      }
      if (!platformApp) throw new MetaAppNotConfigured()
      return platformApp
    }
  }
}

/** Decorates `fastify.metaApps`. */
async function metaApps (fastify: FastifyInstance): Promise<void> {
  const { FB_APP_ID: id, FB_APP_SECRET: secret } = fastify.env
  fastify.decorate('metaApps', createMetaApps({ vault: fastify.vault, platformApp: id && secret ? { id, secret } : undefined }))
}

export default fp(metaApps, { name: 'meta-apps', dependencies: ['env', 'vault'] })
