import type { Database } from '../database/database.js'
import type { Prepared } from '../database/statement.js'
import type { Env } from '../settings/env.js'
import type { RowChange } from '../tenant-configs/tenant-configs.js'
import { isTenantId } from '../tenant-configs/tenant-id.js'
import type { Vault } from '../vault/vault.js'
import { createConfigCache, type CacheCounts, type ListenerHealth } from './cache.js'
import { activeOnNumber, activeOnWaba, explainedRow, rowOfTenant, type ConfigRow } from './config-rows.sql.js'
import { createExplanation, type Explanation } from './explain.js'
import { createIdLookup } from './id-lookup.js'
import type { OutageDetector } from './outage-detector.js'
import { createReadLimiter } from './read-limiter.js'
import { createConfigDecision, isActive, type CachedConfig, type NotServedReason } from './resolve.js'
import { ConfigSnapshot, type ConfigValues } from './snapshot.js'

/** Tenants that one lookup returns, at most. Each may cost a read; Meta lets an account have far fewer numbers. */
const MAX_TENANTS = 100

/** The configurations for internal code. */
export type ConfigLoader = Omit<ReturnType<typeof createLoader>, 'invalidate' | 'invalidateAll'>

/** The counts of the caches since the start, and their size. */
export interface LoaderStats extends CacheCounts {
  entries: { tenants: number, phone_numbers: number, wabas: number }
  /** Whether the invalidation listener is up. */
  channel: 'up' | 'down'
}

interface LoaderDependencies {
  database: Pick<Database, 'as' | 'ofTenant'>
  vault: Pick<Vault, 'open' | 'mask' | 'keyIdOf'>
  env: Env
  /** The health of the listener that calls `invalidate` and `invalidateAll`. */
  listenerHealth: ListenerHealth
  detector: Pick<OutageDetector, 'isDown' | 'reportFailure'>
}

/**
 * Serves the configurations for internal code: the database first, `.env` second. A row is cached until it is
 * invalidated, at most `CONFIG_CACHE_TTL_MS` milliseconds, or `CONFIG_CACHE_BLIND_TTL_MS` while the listener is down.
 * While the database is down, active rows serve for `CONFIG_STALE_IF_ERROR_MS` milliseconds more.
 */
export function createLoader ({ database, vault, env, listenerHealth, detector }: LoaderDependencies) {
  const decision = createConfigDecision({ vault, env })
  const explain = createExplanation({ vault, decision })
  const asLoader = database.as({ role: 'loader' })
  const counts: CacheCounts = { hits: 0, misses: 0, loads: 0, invalidations: 0, stale_serves: 0 }
  const limitRead = createReadLimiter(env.DATABASE_POOL_MAX)
  const shared = {
    max: env.CONFIG_CACHE_MAX,
    ttl: env.CONFIG_CACHE_TTL_MS,
    blindTtl: env.CONFIG_CACHE_BLIND_TTL_MS,
    staleIfError: env.CONFIG_STALE_IF_ERROR_MS,
    listenerHealth,
    detector,
    counts,
    limitRead
  }
  const tenants = createConfigCache<CachedConfig>({ ...shared, read: readTenant, canServeStale: isActive })
  const numbers = lookupBy(activeOnNumber, (snapshot) => snapshot.getPhoneId())
  const wabas = lookupBy(activeOnWaba, (snapshot) => snapshot.getWabaId())

  return {
    forTenant,
    forPhoneNumber,

    /**
     * Returns the configurations of the active tenants whose verified identity is on the account: at most 100, by
     * tenant id, also those with dead tokens.
     *
     * @throws `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE`, and a TypeError for a value that is no string
     */
    forWaba: wabas.find,

    /** Returns `getAllConfig()` of the tenant's configuration; throws as `forTenant`. */
    getWhatsappConfig: async (tenantId: string): Promise<ConfigValues> => (await forTenant(tenantId)).getAllConfig(),

    /**
     * Explains what `forTenant` would do without its cache; the explanation holds no secret.
     *
     * @throws `DATABASE_UNAVAILABLE`, and a TypeError for a value that cannot be a tenant id
     */
    async explain (tenantId: string): Promise<Explanation> {
      const db = database.ofTenant(assertTenantId(tenantId))
      const [row] = await db.run(explainedRow, { key: tenantId })
      return explain(tenantId, row)
    },

    /** The counts since the start, and the size of the caches. */
    stats: (): LoaderStats => ({
      ...counts,
      entries: { tenants: tenants.size, phone_numbers: numbers.tenantIdsById.size, wabas: wabas.tenantIdsById.size },
      channel: performance.now() < listenerHealth.validUntil ? 'up' : 'down'
    }),

    /** Milliseconds since the listener last confirmed that no change was missed; Infinity before the first time. */
    msSinceConfirmed: (): number => performance.now() - listenerHealth.lastConfirmedAt,

    /** Drops the cached entries of rows that have changed. */
    invalidate (changes: RowChange[]): void {
      counts.invalidations += changes.length
      for (const [tenantId, phoneNumberId, wabaId] of changes) {
        tenants.invalidate(tenantId)
        if (phoneNumberId !== null) numbers.tenantIdsById.invalidate(phoneNumberId)
        if (wabaId !== null) wabas.tenantIdsById.invalidate(wabaId)
      }
    },

    /** Drops every cached entry. */
    invalidateAll (): void {
      counts.invalidations++
      for (const cache of [tenants, numbers.tenantIdsById, wabas.tenantIdsById]) cache.invalidateAll()
    }
  }

  /**
   * Returns the tenant's configuration of this moment.
   *
   * @throws `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE`, by `CONFIG_FALLBACK` `TENANT_INACTIVE` and `CONFIG_NOT_FOUND`,
   * by `CONFIG_REFUSE_DEAD_TOKENS` `TOKEN_DEAD`, and a TypeError for a value that cannot be a tenant id. The `.env`
   * values never serve in place of an error.
   */
  function forTenant (tenantId: string): Promise<ConfigSnapshot> {
    // A cached tenant costs one lookup and no new promise. The snapshot is not even read: of many tenants, each object
    // is a miss in the processor's caches.
    const cached = tenants.freshEntry(tenantId)
    if (cached === undefined) return loadTenant(tenantId)
    if (cached.promise !== undefined) return cached.promise
    const { value } = cached
    if (!isActive(value)) return withoutRow(value)
    if (env.CONFIG_REFUSE_DEAD_TOKENS) return withLiveToken(value)
    // Frozen: all callers get the same one.
    cached.promise = Object.freeze(Promise.resolve(value))
    return cached.promise
  }

  /**
   * Returns the configuration of the active tenant whose verified identity has the phone number; null without one. A
   * dead token does not matter: messages arrive without it.
   *
   * @throws `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE`, and a TypeError for a value that is no string
   */
  async function forPhoneNumber (phoneNumberId: string): Promise<ConfigSnapshot | null> {
    const [snapshot = null] = await numbers.find(phoneNumberId)
    return snapshot
  }

  async function loadTenant (tenantId: string): Promise<ConfigSnapshot> {
    const { value, isStale } = await tenants.get(assertTenantId(tenantId))
    if (!isActive(value)) return decision.withoutRow(value)
    return await withLiveToken(isStale ? ConfigSnapshot.stale(value) : value)
  }

  async function withLiveToken (snapshot: ConfigSnapshot): Promise<ConfigSnapshot> {
    decision.assertTokenServes(snapshot)
    return snapshot
  }

  async function withoutRow (reason: NotServedReason): Promise<ConfigSnapshot> {
    return decision.withoutRow(reason)
  }

  async function readTenant (tenantId: string): Promise<CachedConfig> {
    const [row] = await asLoader.run(rowOfTenant, { key: tenantId })
    // The string that is also the key of the cache: one for each tenant.
    if (row !== undefined) row.tenant_id = tenantId
    return decision.fromRow(row)
  }

  /** Creates a lookup by an id of Meta's: `statement` finds its rows, `idOf` reads the id of a snapshot. */
  function lookupBy (statement: Prepared<ConfigRow>, idOf: (snapshot: ConfigSnapshot) => string | null) {
    const rowsWith = async (key: string) => await asLoader.run(statement, { key, limit: MAX_TENANTS })
    const tenantIdsById = createConfigCache<string[]>({
      ...shared,
      read: async (key) => (await rowsWith(key)).map((row) => row.tenant_id),
      canServeStale: (tenantIds) => tenantIds.length > 0
    })
    const configsById = async (key: string) => {
      const rows = await limitRead(async () => await rowsWith(key))
      return rows.map((row) => () => decision.fromRow(row))
    }
    return createIdLookup({ tenantIdsById, tenants, configsById, idOf, detector })
  }
}

function assertTenantId (tenantId: string): string {
  if (!isTenantId(tenantId)) {
    throw new TypeError('a tenant id is a string of 1 to 100 characters without control characters')
  }
  return tenantId
}
