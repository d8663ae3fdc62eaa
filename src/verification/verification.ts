import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { LRUCache } from 'lru-cache'
import type { Queryable } from '../database/statement.js'
import type { Events, TenantEvent } from '../events/events.js'
import { ConfigNotFound, PhoneNumberTaken } from '../errors.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { WritableColumn } from '../schemas/columns.js'
import type { ConfigInput, TenantConfigRow, TenantConfigs, VerifiedOutcome } from '../tenant-configs/tenant-configs.js'
import type { TenantQueues } from '../tenant-queues/tenant-queues.js'
import type { LockedWatch, TokenFinding, TokenHealth, TokenWatch } from '../token-watch/token-watch.js'
import type { Vault } from '../vault/vault.js'
import type { Check } from './checks.js'
import { createExamine, credentialColumns, type Findings } from './examine.js'

declare module 'fastify' {
  interface FastifyInstance { verification: Verification }
}

export type Verification = ReturnType<typeof createVerification>

interface VerificationDependencies {
  tenantConfigs: Pick<TenantConfigs, 'find' | 'seal' | 'inTransaction' | 'saveVerifiedIn'>
  tenantQueues: Pick<TenantQueues, 'run'>
  metaGraph: MetaGraph
  tokenWatch: Pick<TokenWatch, 'healthOf' | 'lock' | 'recordLocked' | 'recordNumberIn'>
  events: Pick<Events, 'emit'>
  vault: Pick<Vault, 'open'>
  /** The expected callback of a tenant that stores none. */
  callbackUrl: string | null
}

/** A check of stored credentials, and when it ended (ms of `performance.now()`; Infinity while it runs). */
interface VerificationRun { credentials: string, checks: Promise<Check[]>, endedAt: number }

/** Tenants whose latest run is kept. A run that is dropped costs calls to Meta, no more. */
const MAX_RUNS = 1000

/**
 * Verifies credentials against Meta, in the tenant's queue; `client` is aborted when the client has left.
 *
 * @throws by both methods: what `TenantQueues.run` throws, `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE`; with nothing
 * stored `META_APP_NOT_CONFIGURED`, `META_APP_REJECTED` of the platform's app, `META_RATE_LIMITED`, `META_UNAVAILABLE`,
 * `META_TIMEOUT`, `META_UNEXPECTED_REPLY`
 */
export function createVerification (dependencies: VerificationDependencies) {
  const { tenantConfigs, tenantQueues, tokenWatch, events } = dependencies
  const examine = createExamine(dependencies)
  const runs = new LRUCache<string, VerificationRun>({ max: MAX_RUNS })

  return {
    /**
     * Checks the stored credentials, and records the result unless other credentials or a newer result were stored
     * meanwhile. When token and assets pass, the identity is saved as verified. A request that came during a run of the
     * same credentials gets the result of that run.
     *
     * @returns the checks, and the row as it is after them
     * @throws `CONFIG_NOT_FOUND`; `PHONE_NUMBER_TAKEN`, once the finding about the token is recorded
     */
    async verify (tenantId: string, client: AbortSignal): Promise<{ checks: Check[], row: TenantConfigRow }> {
      const requestedAt = performance.now()
      return await tenantQueues.run(tenantId, client, async () => {
        const checks = await checksSince(requestedAt, await findConfig(tenantId))
        return { checks, row: await findConfig(tenantId) }
      })
    },

    /** Checks the credentials of the input, filled up with the stored ones; writes nothing. Throws `MASKED_VALUE`. */
    tryOut: async (
      tenantId: string, input: ConfigInput, client: AbortSignal
    ): Promise<{ checks: Check[], row: TenantConfigRow | null }> =>
      await tenantQueues.run(tenantId, client, async () => await tryOut(tenantId, input))
  }

  /** Returns the checks of a run that had not ended when the request came, else of a new one. */
  async function checksSince (requestedAt: number, row: TenantConfigRow): Promise<Check[]> {
    const credentials = JSON.stringify([row.id, ...credentialColumns.map((name) => row[name])])
    const latest = runs.get(row.tenant_id)
    if (latest !== undefined && latest.credentials === credentials && latest.endedAt > requestedAt) {
      return await latest.checks
    }
    const checks = checkStored(row).finally(() => { run.endedAt = performance.now() })
    const run: VerificationRun = { credentials, checks, endedAt: Infinity }
    runs.set(row.tenant_id, run)
    return await run.checks
  }

  async function tryOut (
    tenantId: string, input: ConfigInput
  ): Promise<{ checks: Check[], row: TenantConfigRow | null }> {
    const sealed = tenantConfigs.seal(tenantId, input)
    const row = await tenantConfigs.find(tenantId)
    const value = (name: WritableColumn) => sealed[name] === undefined ? row?.[name] ?? null : sealed[name]
    const { checks } = await examine({
      tenant_id: tenantId,
      access_token: value('access_token'),
      waba_id: value('waba_id'),
      phone_number_id: value('phone_number_id'),
      fb_app_id: value('fb_app_id'),
      fb_app_secret: value('fb_app_secret'),
      callback_url: value('callback_url'),
      verify_token: value('verify_token')
    })
    return { checks, row }
  }

  async function findConfig (tenantId: string): Promise<TenantConfigRow> {
    const row = await tenantConfigs.find(tenantId)
    if (row === null) throw new ConfigNotFound()
    return row
  }

  async function checkStored (row: TenantConfigRow): Promise<Check[]> {
    // Read before the calls to Meta: any change of it is then newer than Meta's answers.
    const health = await tokenWatch.healthOf(row.tenant_id)
    const findings = await examine(row)
    await record(row, health, findings)
    return findings.checks
  }

  /** Records the findings; `before` is the state of the token when the row was read. */
  async function record (row: TenantConfigRow, before: TokenHealth | null, findings: Findings): Promise<void> {
    const { tenant_id: tenantId, access_token: sealed, waba_id, phone_number_id } = row
    const { token } = findings
    if (token === null || sealed === null) return
    const changedTenants = new Set([tenantId])
    const { told, outcome } = await tenantConfigs.inTransaction(changedTenants, async (tx) => {
      const locked = await tokenWatch.lock(tx, tenantId, sealed)
      if (locked === undefined) return { told: [], outcome: null }
      // Meta's answer about the ids holds also after a claim of the scheduler, or a change of the expiry.
      const isLatest = locked.checked_at === before?.checked_at
      const outcome = isLatest ? await saveIfConfirmed(tx, row, locked, findings, changedTenants) : null
      const told = [isLatest ? await recordNumber(tx, row, locked, findings) : null]
      if (locked.next_check_at === (before?.next_check_at ?? null)) {
        told.push(await tokenWatch.recordLocked(tx, tenantId, locked, findingOf(token, locked.expires_at)))
      }
      return { told, outcome }
    }, { waba_id, phone_number_id })
    for (const event of told) if (event !== null) events.emit(event)
    if (outcome === 'taken') throw new PhoneNumberTaken()
  }

  /** Saves the identity as verified if token and assets passed. */
  async function saveIfConfirmed (
    tx: Queryable, { tenant_id, waba_id, phone_number_id }: TenantConfigRow, { access_token }: LockedWatch,
    { checks, token }: Findings, changedTenants: Set<string>
  ): Promise<VerifiedOutcome | null> {
    const isConfirmed = token !== null && !('reason' in token) &&
      checks.every(({ name, ok }) => ok || !['token', 'assets'].includes(name))
    if (!isConfirmed || waba_id === null) return null
    const identity = { tenant_id, access_token, waba_id, phone_number_id }
    return await tenantConfigs.saveVerifiedIn(tx, identity, changedTenants)
  }

  /** Records what Meta told of the number, unless the row has other ids by now. */
  async function recordNumber (
    tx: Queryable, row: TenantConfigRow, locked: LockedWatch, { phone }: Findings
  ): Promise<TenantEvent | null> {
    const { tenant_id: tenantId, waba_id: wabaId, phone_number_id: phoneNumberId } = row
    const isSame = locked.waba_id === wabaId && locked.phone_number_id === phoneNumberId
    if (phone === undefined || phoneNumberId === null || !isSame) return null
    return await tokenWatch.recordNumberIn(tx, tenantId, phoneNumberId, phone)
  }
}

function findingOf (token: NonNullable<Findings['token']>, storedExpiry: string | null): TokenFinding {
  if ('reason' in token) return { valid: false, reason: token.reason }
  const { expires_at = storedExpiry, data_access_ends_at } = token
  return { valid: true, expires_at, data_access_ends_at }
}

/** Decorates `fastify.verification`. */
async function verification (fastify: FastifyInstance): Promise<void> {
  const { tenantConfigs, tenantQueues, metaGraph, tokenWatch, events, vault, env } = fastify
  fastify.decorate('verification', createVerification({
    tenantConfigs, tenantQueues, metaGraph, tokenWatch, events, vault, callbackUrl: env.CALLBACK_URL ?? null
  }))
}

export default fp(verification, {
  name: 'verification',
  dependencies: ['env', 'vault', 'tenant-configs', 'tenant-queues', 'meta-graph', 'token-watch', 'events']
})
