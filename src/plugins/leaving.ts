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
  metaGraph: Pick<MetaGraph, 'unsubscribeApp' | 'subscriptionOf' | 'subscribeApp'>
  vault: Pick<Vault, 'open'>
  log: Pick<FastifyInstance['log'], 'info' | 'warn'>
}

/** Lets tenants leave, and takes our app off their accounts. */
export function createLeaving ({ tenantConfigs, metaApps, metaGraph, vault, log }: LeavingDependencies) {
  return { leave }

  /**
   * Takes our app off the tenant's account, unless a number of another tenant lives there, then deletes the configuration. If one
   * moves there meanwhile, our app is subscribed again first. With `force` it is deleted even if the app stays, and the log says why that did.
   * Throws, having deleted nothing, `CONFIG_NOT_FOUND`, `META_UNSUBSCRIBE_REFUSED` with Meta's case as its `advice`,
   * `META_APP_NOT_CONFIGURED`, `SECRET_UNREADABLE`, `DATABASE_UNAVAILABLE`, and what keeps Meta from answering.
   */
  async function leave (tenantId: string, force: boolean): Promise<void> {
    const row = await tenantConfigs.find(tenantId)
    if (row === null) throw new ConfigNotFound()
    let isOff = false
    let outcome = await tenantConfigs.removeLeaving(row, isOff)
    while (outcome === 'kept') {
      await (isOff ? putBack(row) : takeOff(row, force))
      isOff = !isOff
      outcome = await tenantConfigs.removeLeaving(row, isOff)
    }
    if (outcome === 'changed') {
      await leave(tenantId, force)
      return
    }
    const { waba_id: wabaId, access_token: token } = row
    if (!isOff && wabaId !== null && token !== null) log.info({ tenant_id: tenantId, waba_id: wabaId }, 'our app stays on the account of a tenant who left: a number of another tenant lives there')
  }

  async function takeOff (row: TenantConfigRow, force: boolean): Promise<void> {
    const { tenant_id: tenantId } = row
    try {
      await unsubscribe(row)
    } catch (err) {
      // Somebody else may have taken it off, and deleted the row.
      if (!force) throw await tenantConfigs.find(tenantId) === null ? new ConfigNotFound() : err
      log.warn({ err, tenant_id: tenantId }, 'deletes a configuration whose app stays on the account')
    }
  }

  async function unsubscribe (row: TenantConfigRow): Promise<void> {
    const { app, token, wabaId } = accessOf(row)
    try {
      await metaGraph.unsubscribeApp(app, token, wabaId)
    } catch (err) {
      if (!isRefusal(err)) throw err
      throw Object.assign(new MetaUnsubscribeRefused({ cause: err }), { advice: adviceIn(err) })
    }
  }

  /** Subscribes our app for who moved onto the account while it was taken off. If that fails, only the tenant who lives there can mend it. */
  async function putBack (row: TenantConfigRow): Promise<void> {
    const about = { tenant_id: row.tenant_id, waba_id: row.waba_id }
    try {
      const { app, token, wabaId } = accessOf(row)
      // Once more would clear the callback that an onboarding has set.
      if (await metaGraph.subscriptionOf(app, token, wabaId) !== null) return
      await metaGraph.subscribeApp(app, token, wabaId)
      log.warn(about, 'subscribed our app again to an account that another tenant moved onto; a callback of its own is to be set by onboarding again')
    } catch (err) {
      log.warn({ err, ...about }, 'could not subscribe our app again to an account that another tenant moved onto: that tenant must onboard again')
    }
  }

  function accessOf (row: TenantConfigRow) {
    const app = metaApps.of(row)
    // Only a row that has both is kept.
    return { app, token: vault.open(String(row.access_token), row.tenant_id, 'access_token'), wabaId: String(row.waba_id) }
  }
}

/** Decorates `fastify.leaving`. */
async function leaving (fastify: FastifyInstance): Promise<void> {
  fastify.decorate('leaving', createLeaving(fastify))
}

export default fp(leaving, { name: 'leaving', dependencies: ['tenant-configs', 'meta-apps', 'meta-graph', 'vault'] })
