import { sql } from 'drizzle-orm'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { createConfigCache, type CacheCounts, type ListenerHealth } from './cache.js'
import { createConfigDecision, type NotServedReason } from './resolve.js'
import { toCachedConfig, isActive, snapshotOf, type CachedConfig } from './entry.js'
import { createIdLookup } from './id-lookup.js'
import type { ConfigSnapshot, ConfigValues } from './snapshot.js'
import { createInvalidationListener, type RowChange } from './invalidation-listener.js'
import { configRowStatements, type ConfigRow, type ConfigRowStatements } from './config-rows.sql.js'
import { createExplanation, type Explanation } from './explain.js'
import { createOutageDetector, type OutageDetector } from './outage-detector.js'
import { createReadLimiter } from '../waiting/deadline.js'
import { isTenantId } from '../tenant-configs/tenant-id.js'
import { mapDatabaseErrors } from '../database/database.js'
import type { Env } from '../settings/env.js'
import type { Vault } from '../vault/vault.js'

declare module 'fastify' {
  interface FastifyInstance { configLoader: ConfigLoader }
}

/** Tenants that one look-up returns. Each may cost a read, and Meta lets an account have far fewer numbers. */
const MAX_TENANTS = 100

/** What internal code gets its configurations from. */
export type ConfigLoader = Omit<ReturnType<typeof createLoader>, 'invalidate' | 'invalidateAll'>

/** What the loader has done since it was made, and what it holds. */
export interface LoaderStats extends CacheCounts {
  entries: { tenants: number, phone_numbers: number, wabas: number }
  /** Whether changes are heard at once. */
  channel: 'up' | 'down'
}

interface LoaderDependencies {
  rows: ConfigRowStatements
  vault: Pick<Vault, 'open' | 'keyIdOf'>
  env: Env
  /** Since when, and until when, whoever calls `strike` and `clear` has missed no change. */
  listenerHealth: ListenerHealth
  detector: Pick<OutageDetector, 'isDown' | 'reportFailure'>
}

/**
 * Serves the configurations that internal code works with: the database first, `.env` second.
 * What the database said is kept until `strike` or `clear` is called, at most `CONFIG_CACHE_TTL_MS` milliseconds, and `CONFIG_CACHE_BLIND_TTL_MS`
 * while changes are missed. While the database is away, active rows serve for `CONFIG_STALE_IF_ERROR_MS` milliseconds more.
 */
export function createLoader ({ rows, vault, env, listenerHealth, detector }: LoaderDependencies) {
  const decision = createConfigDecision({ vault, env })
  const explain = createExplanation({ vault, decision })
  const counts: CacheCounts = { hits: 0, misses: 0, loads: 0, invalidations: 0, stale_serves: 0 }
  const bounds = {
    max: env.CONFIG_CACHE_MAX,
    ttl: env.CONFIG_CACHE_TTL_MS,
    blindTtl: env.CONFIG_CACHE_BLIND_TTL_MS,
    staleIfError: env.CONFIG_STALE_IF_ERROR_MS
  }
  const shared = { ...bounds, listenerHealth, detector, counts, limitRead: createReadLimiter(env.DATABASE_POOL_MAX) }
  const tenants = createConfigCache<CachedConfig>({ ...shared, read: readTenant, canServeStale: isActive })
  const numbers = idLookup(rows.activeOnNumber, (snapshot) => snapshot.getPhoneId())
  const wabas = idLookup(rows.activeOnWaba, (snapshot) => snapshot.getWabaId())

  async function readRow (key: string): Promise<ConfigRow | undefined> {
    return (await mapDatabaseErrors(rows.ofTenant.execute({ key })))[0]
  }

  async function readTenant (key: string): Promise<CachedConfig> {
    return toCachedConfig(decision.fromRow(await readRow(key)))
  }

  function idLookup (statement: ConfigRowStatements['activeOnNumber' | 'activeOnWaba'], idOf: (snapshot: ConfigSnapshot) => string | null) {
    const rowsOn = async (key: string) => await mapDatabaseErrors(statement.execute({ key, limit: MAX_TENANTS }))
    const tenantIdsById = createConfigCache<string[]>({
      ...shared,
      read: async (key) => (await rowsOn(key)).map((row) => row.tenant_id),
      canServeStale: (tenantIds) => tenantIds.length > 0
    })
    const configsById = async (key: string) => (await shared.limitRead(async () => await rowsOn(key))).map((row) => () => toCachedConfig(decision.fromRow(row)))
    return createIdLookup({ tenantIdsById, tenants, configsById, idOf, detector })
  }

  async function loadTenant (tenantId: string): Promise<ConfigSnapshot> {
    const { value, isStale } = await tenants.get(assertTenantId(tenantId))
    return isActive(value) ? await withLiveToken(snapshotOf(value, isStale)) : decision.withoutRow(value)
  }

  async function withLiveToken (snapshot: ConfigSnapshot): Promise<ConfigSnapshot> {
    decision.assertTokenServes(snapshot)
    return snapshot
  }

  async function withoutRow (absence: NotServedReason): Promise<ConfigSnapshot> {
    return decision.withoutRow(absence)
  }

  /**
   * Returns the tenant's configuration of this moment.
   * Throws `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE`, where `CONFIG_FALLBACK` says so `TENANT_INACTIVE` and
   * `CONFIG_NOT_FOUND`, where `CONFIG_REFUSE_DEAD_TOKENS` says so `TOKEN_DEAD`, and a TypeError for what cannot be a tenant id: no fault is ever answered with the `.env` values.
   */
  function forTenant (tenantId: string): Promise<ConfigSnapshot> {
    // A known tenant costs one look and no new promise.
    const entry = tenants.peekFresh(tenantId)
    if (entry === undefined) return loadTenant(tenantId)
    if (!isActive(entry)) return withoutRow(entry)
    return env.CONFIG_REFUSE_DEAD_TOKENS ? withLiveToken(entry.snapshot) : entry.answer
  }

  /**
   * Returns the configuration of the active tenant that owns the phone number by its verified identity, null when there is none.
   * A dead token does not matter: messages arrive without it.
   * Throws `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE`, and a TypeError for what is no string.
   */
  async function forPhoneNumber (phoneNumberId: string): Promise<ConfigSnapshot | null> {
    const [snapshot = null] = await numbers.find(phoneNumberId)
    return snapshot
  }

  return {
    forTenant,
    forPhoneNumber,

    /**
     * Returns the configurations of the active tenants with a verified identity on the WhatsApp Business Account, by tenant id, at most
     * 100, also with dead tokens.
     * Throws `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE`, and a TypeError for what is no string.
     */
    forWaba: wabas.find,

    /** `getAllConfig()` of the tenant's configuration in one call; throws what `forTenant` does. */
    getWhatsappConfig: async (tenantId: string): Promise<ConfigValues> => (await forTenant(tenantId)).getAllConfig(),

    /**
     * Returns what `forTenant` would do by what the database says now, whatever is cached, and why; it holds no secret.
     * Throws `DATABASE_UNAVAILABLE`, and a TypeError for what cannot be a tenant id.
     */
    explain: async (tenantId: string): Promise<Explanation> => explain(assertTenantId(tenantId), await readRow(tenantId)),

    /** What it has done and holds. */
    stats: (): LoaderStats => ({
      ...counts,
      entries: { tenants: tenants.size, phone_numbers: numbers.tenantIdsById.size, wabas: wabas.tenantIdsById.size },
      channel: performance.now() < listenerHealth.validUntil ? 'up' : 'down'
    }),

    /** Strikes out what is held of rows that have changed. */
    invalidate (changes: RowChange[]): void {
      counts.invalidations += changes.length
      for (const [tenantId, phoneNumberId, wabaId] of changes) {
        tenants.invalidate(tenantId)
        if (phoneNumberId !== null) numbers.tenantIdsById.invalidate(phoneNumberId)
        if (wabaId !== null) wabas.tenantIdsById.invalidate(wabaId)
      }
    },

    /** Strikes out everything. */
    invalidateAll (): void {
      counts.invalidations++
      for (const cache of [tenants, numbers.tenantIdsById, wabas.tenantIdsById]) cache.invalidateAll()
    }
  }
}

function assertTenantId (tenantId: string): string {
  if (!isTenantId(tenantId)) throw new TypeError('a tenant id is a string of 1 to 100 characters without control characters')
  return tenantId
}

/** Decorates `fastify.configLoader`. */
async function configLoader (fastify: FastifyInstance): Promise<void> {
  const { env, vault, tenantConfigs, database } = fastify
  const detector = createOutageDetector({ probe: database.probe })
  const listener = createInvalidationListener({
    connection: database.unpooledClient,
    notify: async (name) => { await mapDatabaseErrors(database.orm.execute(sql`select pg_notify(${name}, '')`)) },
    log: fastify.log
  })
  const { invalidate, invalidateAll, ...loader } = createLoader({ rows: configRowStatements(database.orm), vault, env, listenerHealth: listener.health, detector })
  // What this process writes it sees at once.
  tenantConfigs.onChange((change) => { if (change === null) invalidateAll(); else invalidate([change]) })
  fastify.decorate('configLoader', loader)
  fastify.addHook('onClose', async () => {
    await detector.close()
    await listener.close()
    invalidateAll()
  })
  await listener.open({
    onChanges: (changes) => { if (changes === null) invalidateAll(); else invalidate(changes) },
    onConnect: () => {
      // It was heard through the pool. What is dropped now must be loaded, not refused.
      detector.markUp()
      invalidateAll()
    },
    onLoss: detector.reportFailure
  })
}

export default fp(configLoader, { name: 'config-loader', dependencies: ['env', 'vault', 'database', 'tenant-configs'] })
