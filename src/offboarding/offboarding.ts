import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ConfigChanging, ConfigNotFound, isRefusal, MetaUnsubscribeRefused, ServiceClosing } from '../errors.js'
import { adviceIn } from '../meta/advice.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { RemovalTerms, TenantConfigRow, TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { TenantQueues } from '../tenant-queues/tenant-queues.js'
import type { Vault } from '../vault/vault.js'

declare module 'fastify' {
  interface FastifyInstance { offboarding: Offboarding }
}

export type Offboarding = ReturnType<typeof createOffboarding>

/** Bounds the retries of an offboarding whose configuration or account changes meanwhile. */
const MAX_ROUNDS = 5

interface OffboardingTerms extends RemovalTerms {
  /** Whether to delete the configuration also when the app cannot be unsubscribed, which is logged then. */
  force: boolean
}

interface OffboardingDependencies {
  tenantConfigs: Pick<TenantConfigs, 'endOnboardings' | 'find' | 'removeOffboarded' | 'purge'>
  tenantQueues: Pick<TenantQueues, 'run'>
  metaGraph: Pick<MetaGraph, 'appOf' | 'unsubscribeApp' | 'subscriptionOf' | 'subscribeApp'>
  vault: Pick<Vault, 'open'>
  log: Pick<FastifyInstance['log'], 'info' | 'warn'>
}

/** Removes tenants, and unsubscribes our app from their accounts. */
export function createOffboarding ({ tenantConfigs, tenantQueues, metaGraph, vault, log }: OffboardingDependencies) {
  return {
    /**
     * Ends the tenant's onboardings, unsubscribes our app from its account and deletes the configuration, in the
     * tenant's queue. The app stays on an account that has a verified number of another tenant; it is subscribed again
     * when one arrives meanwhile.
     *
     * @throws with nothing deleted: `CONFIG_NOT_FOUND`, `PRECONDITION_FAILED`, `META_UNSUBSCRIBE_REFUSED` with Meta's
     * case as its `advice`, `META_APP_NOT_CONFIGURED`, `SECRET_UNREADABLE`, `DATABASE_UNAVAILABLE`, `CONFIG_CHANGING`,
     * what `TenantQueues.run` throws, and a failure of the call to Meta
     */
    offboard: async (tenantId: string, terms: OffboardingTerms, client: AbortSignal): Promise<void> => {
      await tenantQueues.run(tenantId, client, async () => { await offboard(tenantId, terms) })
    }
  }

  async function offboard (tenantId: string, terms: OffboardingTerms): Promise<void> {
    const { ifMatch, purge } = terms
    let hasEnded = await tenantConfigs.endOnboardings(tenantId, ifMatch)
    for (let round = 1; round <= MAX_ROUNDS; round++) {
      const row = await tenantConfigs.find(tenantId, ifMatch)
      if (row === null && purge === true && await tenantConfigs.purge(tenantId)) {
        // A restore may have recreated the row before that.
        hasEnded = true
        continue
      }
      if (row === null && hasEnded) return
      if (row === null) throw new ConfigNotFound()
      if (await remove(row, terms)) return
    }
    throw new ConfigChanging()
  }

  /** Returns false when the row has changed, or a number of another tenant has arrived on the account. */
  async function remove (row: TenantConfigRow, terms: OffboardingTerms): Promise<boolean> {
    const { force, ifMatch } = terms
    let outcome = await tenantConfigs.removeOffboarded(row, false, terms)
    if (outcome === 'removed') {
      const { tenant_id: tenantId, waba_id: wabaId, access_token: token } = row
      if (wabaId !== null && token !== null) {
        log.info({ tenant_id: tenantId, waba_id: wabaId },
          'our app stays on the account of a tenant who left: a verified number of another tenant lives there')
      }
      return true
    }
    if (outcome === 'kept') {
      await unsubscribe(row, force)
      outcome = await tenantConfigs.removeOffboarded(row, true, terms)
      if (outcome === 'kept') await resubscribe(row)
      if (outcome === 'changed' && Array.isArray(ifMatch)) await resubscribeKept(row)
    }
    return outcome === 'removed'
  }

  async function unsubscribe (row: TenantConfigRow, force: boolean): Promise<void> {
    const { tenant_id: tenantId } = row
    try {
      await callUnsubscribe(row)
    } catch (err) {
      // The service is closing, and Meta was not called.
      if (err instanceof ServiceClosing) throw err
      // Another request may have unsubscribed the app, and deleted the row.
      if (!force) throw await tenantConfigs.find(tenantId) === null ? new ConfigNotFound() : err
      log.warn({ err, tenant_id: tenantId }, 'deletes a configuration whose app stays on the account')
    }
  }

  async function callUnsubscribe (row: TenantConfigRow): Promise<void> {
    const { app, token, wabaId } = accessOf(row)
    try {
      await metaGraph.unsubscribeApp(app, token, wabaId)
    } catch (err) {
      if (!isRefusal(err)) throw err
      throw Object.assign(new MetaUnsubscribeRefused({ cause: err }), { advice: adviceIn(err) })
    }
  }

  /** Subscribes our app again for a configuration that stays, since it is of another version by now. */
  async function resubscribeKept ({ tenant_id: tenantId, waba_id: wabaId }: TenantConfigRow): Promise<void> {
    const row = await tenantConfigs.find(tenantId)
    if (row?.waba_id === wabaId) await resubscribe(row)
  }

  /**
   * Subscribes our app for a tenant that arrived on the account meanwhile, or stays on it. If that fails, only that
   * tenant can mend it.
   */
  async function resubscribe (row: TenantConfigRow): Promise<void> {
    const about = { tenant_id: row.tenant_id, waba_id: row.waba_id }
    try {
      const { app, token, wabaId } = accessOf(row)
      // A second subscription would clear the callback that an onboarding has set.
      if (await metaGraph.subscriptionOf(app, token, wabaId) !== null) return
      await metaGraph.subscribeApp(app, token, wabaId)
      log.warn(about, 'subscribed our app again to an account that another tenant moved onto, or whose tenant stays; ' +
        'a callback of its own is to be set by onboarding again')
    } catch (err) {
      log.warn({ err, ...about }, 'could not subscribe our app again to an account that another tenant moved onto, ' +
        'or whose tenant stays: that tenant must onboard again')
    }
  }

  function accessOf (row: TenantConfigRow) {
    const app = metaGraph.appOf(row)
    // Every row with the outcome `kept` has a token and an account.
    const token = vault.open(String(row.access_token), row.tenant_id, 'access_token')
    return { app, token, wabaId: String(row.waba_id) }
  }
}

/** Decorates `fastify.offboarding`. */
async function offboarding (fastify: FastifyInstance): Promise<void> {
  fastify.decorate('offboarding', createOffboarding(fastify))
}

export default fp(offboarding, {
  name: 'offboarding',
  dependencies: ['tenant-configs', 'tenant-queues', 'meta-graph', 'vault']
})
