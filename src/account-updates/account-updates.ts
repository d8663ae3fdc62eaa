import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Events, TenantEvent } from '../events/events.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { TokenWatch } from '../token-watch/token-watch.js'
import { deactivateWabas, recordDelivery } from './account-updates.sql.js'
import { lostAccounts } from './lost-accounts.js'

declare module 'fastify' {
  interface FastifyInstance { accountUpdates: AccountUpdates }
}

export type AccountUpdates = ReturnType<typeof createAccountUpdates>

interface AccountUpdateDependencies {
  tenantConfigs: Pick<TenantConfigs, 'inTransaction'>
  tokenWatch: Pick<TokenWatch, 'recordIn'>
  events: Pick<Events, 'emit'>
  /** The present secret of the app, and former ones. */
  secrets: string[]
  verifyToken: string | undefined
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
}

/**
 * Processes the account updates that Meta sends to the webhook of the app.
 * Source: developers.facebook.com/documentation/business-messaging/whatsapp/webhooks, field `account_update`
 */
export function createAccountUpdates (
  { tenantConfigs, tokenWatch, events, secrets, verifyToken, log }: AccountUpdateDependencies
) {
  return {
    /** Whether one of the secrets signed a body (its bytes as they came): `sha256=` and 64 lower-case hex digits. */
    isSigned: (body: Buffer, signature: string): boolean => secrets.some((secret) =>
      isSame(signature, `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`)),

    /** Whether this is the verify token set at Meta; false for every text while none is set. */
    isVerifyToken: (token: string): boolean =>
      verifyToken !== undefined && isSame(digestOf(token), digestOf(verifyToken)),

    /**
     * Deactivates every tenant on an account that a signed body reports as lost, and records that its token is invalid.
     * A tenant that was onboarded since is left alone. A body that was received before changes nothing.
     *
     * @throws `MALFORMED_JSON`; `DATABASE_UNAVAILABLE` with nothing stored, so Meta's next delivery counts
     */
    async receive (body: Buffer): Promise<void> {
      const lost = lostAccounts(body)
      if (lost.size === 0) return
      const changedTenants = new Set<string>()
      const times = [...lost.values()].map(({ at }) => at)
      const { tenants, transitions } = await tenantConfigs.inTransaction(changedTenants, async (tx) => {
        const transitions: TenantEvent[] = []
        const isNew = await recordDelivery(tx, digestOf(body))
        const tenants = isNew ? await deactivateWabas(tx, [...lost.keys()], times) : []
        for (const { tenant_id: tenantId, waba_id: wabaId, access_token: sealed, is_lost: isLost } of tenants) {
          if (!isLost) continue
          changedTenants.add(tenantId)
          if (sealed === null) continue
          const finding = { valid: false, reason: String(lost.get(wabaId)?.event) } as const
          const recorded = await tokenWatch.recordIn(tx, tenantId, sealed, finding)
          if (recorded?.transition != null) transitions.push(recorded.transition)
        }
        return { tenants, transitions }
      })
      for (const { tenant_id, waba_id, is_lost } of tenants) {
        const about = { tenant_id, waba_id, event: lost.get(waba_id)?.event }
        if (is_lost) log.warn(about, 'deactivated a tenant: its account is lost to us')
        else log.info(about, 'left a tenant as it is: it was onboarded after its account was lost')
      }
      for (const transition of transitions) events.emit(transition)
    }
  }
}

const digestOf = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('base64url')

function isSame (one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)]
  return a.length === b.length && timingSafeEqual(a, b)
}

/** Decorates `fastify.accountUpdates`. */
async function accountUpdates (fastify: FastifyInstance): Promise<void> {
  const { tenantConfigs, tokenWatch, events, log, env } = fastify
  const former = env.FB_APP_SECRETS_PREVIOUS?.split(',').map((secret) => secret.trim()) ?? []
  fastify.decorate('accountUpdates', createAccountUpdates({
    tenantConfigs,
    tokenWatch,
    events,
    // Anybody can sign with an empty secret.
    secrets: [env.FB_APP_SECRET ?? '', ...former].filter((secret) => secret !== ''),
    verifyToken: env.WEBHOOK_VERIFY_TOKEN,
    log
  }))
}

export default fp(accountUpdates, {
  name: 'account-updates',
  dependencies: ['env', 'tenant-configs', 'token-watch', 'events']
})
