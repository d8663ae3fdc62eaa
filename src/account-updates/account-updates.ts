import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { bySystem, type Audit } from '../audit/audit.js'
import type { Queryable } from '../database/statement.js'
import type { Events, TenantEvent } from '../events/events.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { TokenWatch } from '../token-watch/token-watch.js'
import { applyUpdates, type AccountChange } from './account-state.js'
import {
  lockTenants, makeTokensDue, recordDelivery, saveStates, turnOff, type TenantOnAccount
} from './account-updates.sql.js'
import { readDelivery, type AccountUpdate, type Unrecognised } from './delivery.js'
import { createResumption } from './resumption.js'

declare module 'fastify' {
  interface FastifyInstance { accountUpdates: AccountUpdates }
}

export type AccountUpdates = ReturnType<typeof createAccountUpdates>

interface AccountUpdateDependencies {
  tenantConfigs: Pick<TenantConfigs, 'inTransaction'>
  tokenWatch: Pick<TokenWatch, 'recordIn'>
  events: Pick<Events, 'record' | 'emit'>
  audit: Pick<Audit, 'record'>
  /** Starts the live checks of due resumptions. */
  wakeResumption: () => void
  /** The present secret of the app, and former ones. */
  secrets: string[]
  verifyToken: string | undefined
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
}

/** A tenant on an account of a delivery, and what its updates change; null: nothing. */
interface Outcome { tenant: TenantOnAccount, change: AccountChange | null }

/** Distinct parts of a delivery that are logged as not recognised. */
const MAX_LOGGED = 20

/**
 * Processes the account updates that Meta sends to the webhook of the app.
 * Source: developers.facebook.com/documentation/business-messaging/whatsapp/webhooks, field `account_update`
 */
export function createAccountUpdates (dependencies: AccountUpdateDependencies) {
  const { tenantConfigs, tokenWatch, events, audit, wakeResumption, secrets, verifyToken, log } = dependencies
  let unrecognisedCount = 0

  return {
    /** Whether one of the secrets signed a body (its bytes as they came): `sha256=` and 64 lower-case hex digits. */
    isSigned: (body: Buffer, signature: string): boolean => secrets.some((secret) =>
      isSame(signature, `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`)),

    /** Whether this is the verify token set at Meta; false for every text while none is set. */
    isVerifyToken: (token: string): boolean =>
      verifyToken !== undefined && isSame(digestOf(token), digestOf(verifyToken)),

    /**
     * Applies the updates of a signed body to the tenants that they are about: it turns them off, or has a suspended
     * one checked for its resumption. A body that was received before changes nothing. Meta is not called.
     *
     * @throws `MALFORMED_JSON`; `DATABASE_UNAVAILABLE` with nothing stored, so Meta's next delivery counts
     */
    async receive (body: Buffer): Promise<void> {
      const { updates, unrecognised } = readDelivery(body)
      if (updates.length > 0) await store(digestOf(body), updates)
      if (unrecognised.length > 0) logUnrecognised(unrecognised)
    }
  }

  async function store (digest: string, updates: AccountUpdate[]): Promise<void> {
    const changedTenants = new Set<string>()
    const { outcomes, transitions } = await tenantConfigs.inTransaction(changedTenants, async (tx) => {
      if (!await recordDelivery(tx, digest)) return { outcomes: [], transitions: [] }
      const tenants = await lockTenants(tx, updates)
      const outcomes = tenants.map((tenant) => ({ tenant, change: applyUpdates(tenant, tenant.updates) }))
      for (const { tenant, change } of outcomes) if (change !== null) changedTenants.add(tenant.tenant_id)
      return { outcomes, transitions: await save(tx, outcomes) }
    })
    for (const outcome of outcomes) logOutcome(outcome)
    for (const transition of transitions) events.emit(transition)
    if (outcomes.some(({ change }) => change?.isResumptionDue)) wakeResumption()
  }

  /** Writes the changes of locked tenants. Returns the events to emit after the commit. */
  async function save (tx: Queryable, outcomes: Outcome[]): Promise<TenantEvent[]> {
    const changes = outcomes.flatMap(({ tenant, change }) => change === null ? [] : { ...tenant, ...change })
    await turnOff(tx, changes.filter(({ turnsOff }) => turnsOff).map(({ tenant_id: id }) => id))
    await saveStates(tx, changes.map(({ tenant_id, state, isResumptionDue }) =>
      ({ ...state, tenant_id, is_resumption_due: isResumptionDue })))
    const unclear = outcomes.filter(({ tenant }) => tenant.unclear.length > 0)
    await makeTokensDue(tx, unclear.map(({ tenant }) => tenant.tenant_id))
    const recorded: TenantEvent[] = []
    for (const { tenant_id: tenantId, access_token: sealed, turnsOff, lossEvent, transitions } of changes) {
      if (turnsOff) {
        await audit.record({ ...bySystem, tenant_id: tenantId, action: 'config.deactivate', fields: [] }, tx)
      }
      if (lossEvent !== null && sealed !== null) {
        const result = await tokenWatch.recordIn(tx, tenantId, sealed, { valid: false, reason: lossEvent })
        if (result?.transition != null) recorded.push(result.transition)
      }
      for (const transition of transitions) {
        recorded.push(await events.record(tx, { tenant_id: tenantId, ...transition }))
      }
    }
    return recorded
  }

  function logOutcome ({ tenant, change }: Outcome): void {
    const about = { tenant_id: tenant.tenant_id, waba_id: tenant.waba_id }
    if (tenant.unclear.length > 0) {
      const event = tenant.unclear.at(-1)?.event
      log.warn({ ...about, event }, 'an update names a number that may be the tenant\'s: its token and number are due')
    }
    const event = tenant.updates.at(-1)?.event
    if (event === undefined) return
    if (change === null) log.info({ ...about, event }, 'left a tenant as it is: it was onboarded or updated later')
    else if (change.lossEvent !== null) {
      log.warn({ ...about, event: change.lossEvent }, 'deactivated a tenant: its account is lost to us')
    } else if (change.isResumptionDue) log.info({ ...about, event }, 'a suspended tenant is checked for its resumption')
    else if (change.turnsOff) log.warn({ ...about, event }, 'deactivated a tenant: its account is suspended')
    else log.info({ ...about, event }, 'an account update turned no tenant on or off')
  }

  function logUnrecognised (parts: Unrecognised[]): void {
    unrecognisedCount += parts.length
    const distinct = new Map(parts.map((part) => [JSON.stringify(part), part])).values()
    log.warn({ unrecognised: [...distinct].slice(0, MAX_LOGGED), count: unrecognisedCount },
      'an account update was not recognised, and changes nothing')
  }
}

const digestOf = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('base64url')

function isSame (one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)]
  return a.length === b.length && timingSafeEqual(a, b)
}

/** Decorates `fastify.accountUpdates`, and runs the resumption from `onReady` to `onClose`. */
async function accountUpdates (fastify: FastifyInstance): Promise<void> {
  const { database, vault, metaGraph, tenantConfigs, tokenWatch, events, audit, closing, log, env } = fastify
  const resumption = createResumption({
    database, vault, metaGraph, tenantConfigs, tokenWatch, events, audit, timeoutMs: env.GRAPH_TIMEOUT_MS, closing, log
  })
  const former = env.FB_APP_SECRETS_PREVIOUS?.split(',').map((secret) => secret.trim()) ?? []
  fastify.decorate('accountUpdates', createAccountUpdates({
    tenantConfigs,
    tokenWatch,
    events,
    audit,
    wakeResumption: resumption.wake,
    // Anybody can sign with an empty secret.
    secrets: [env.FB_APP_SECRET ?? '', ...former].filter((secret) => secret !== ''),
    verifyToken: env.WEBHOOK_VERIFY_TOKEN,
    log
  }))
  fastify.addHook('onReady', async () => { resumption.start() })
  // Before the hook of the database, which was registered earlier.
  fastify.addHook('onClose', async () => { await resumption.stop() })
}

export default fp(accountUpdates, {
  name: 'account-updates',
  dependencies: [
    'env', 'closing', 'database', 'vault', 'meta-graph', 'tenant-configs', 'token-watch', 'events', 'audit'
  ]
})
