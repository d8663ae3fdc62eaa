import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ConfigNotFound, MetaUnsubscribeRefused } from '../errors.js'
import { adviceIn } from '../meta-advice.js'
import type { MetaApps } from './meta-apps.js'
import type { MetaGraph } from './meta-graph.js'
import { isRefusal } from './meta-refusals.js'
import type { TenantConfigRow, TenantConfigs } from './tenant-configs.js'
import type { Vault } from './vault.js'

declare module 'fastify' {
  interface FastifyInstance { leaving: Leaving }
}

export type Leaving = ReturnType<typeof createLeaving>

interface LeavingDependencies {
  tenantConfigs: Pick<TenantConfigs, 'find' | 'removeLeaving'>
  metaApps: MetaApps
  metaGraph: Pick<MetaGraph, 'unsubscribeApp'>
  vault: Pick<Vault, 'open'>
  log: Pick<FastifyInstance['log'], 'warn'>
}

/** Lets tenants leave, and takes our app off their accounts. */
export function createLeaving ({ tenantConfigs, metaApps, metaGraph, vault, log }: LeavingDependencies) {
  return { leave }

  /**
   * Takes our app off the tenant's account, unless a number of another tenant lives there, then deletes the configuration.
   * With `force` it is deleted even if the app stays, and the log says why that did.
   * Throws, having deleted nothing, `CONFIG_NOT_FOUND`, `META_UNSUBSCRIBE_REFUSED` with Meta's case as its `advice`,
   * `META_APP_NOT_CONFIGURED`, `SECRET_UNREADABLE`, `DATABASE_UNAVAILABLE`, and what keeps Meta from answering.
   */
  async function leave (tenantId: string, force: boolean): Promise<void> {
    const row = await tenantConfigs.find(tenantId)
    if (row === null) throw new ConfigNotFound()
    let outcome = await tenantConfigs.removeLeaving(row, false)
    if (outcome === 'alone') {
      try {
        await takeOff(row)
      } catch (err) {
        // Somebody else may have taken it off, and deleted the row.
        if (!force) throw await tenantConfigs.find(tenantId) === null ? new ConfigNotFound() : err
        log.warn({ err, tenant_id: tenantId }, 'deletes a configuration whose app stays on the account')
      }
      outcome = await tenantConfigs.removeLeaving(row, true)
    }
    if (outcome === 'changed') await leave(tenantId, force)
  }

  async function takeOff (row: TenantConfigRow): Promise<void> {
    const app = metaApps.of(row)
    // Only a row that has both is alone on an account.
    const token = vault.open(String(row.access_token), row.tenant_id, 'access_token')
    try {
      await metaGraph.unsubscribeApp(app, token, String(row.waba_id))
    } catch (err) {
      if (!isRefusal(err)) throw err
      throw Object.assign(new MetaUnsubscribeRefused({ cause: err }), { advice: adviceIn(err) })
    }
  }
}

/** Decorates `fastify.leaving`. */
async function leaving (fastify: FastifyInstance): Promise<void> {
  fastify.decorate('leaving', createLeaving(fastify))
}

export default fp(leaving, { name: 'leaving', dependencies: ['tenant-configs', 'meta-apps', 'meta-graph', 'vault'] })
