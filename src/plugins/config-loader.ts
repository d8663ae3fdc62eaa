import { sql } from 'drizzle-orm'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { createConfigCache, type CacheCounts, type Trust } from '../config-cache.js'
import { createConfigDecision, type Absence } from '../config-decision.js'
import { ConfigSnapshot, type ConfigValues, type Resolved } from '../config-snapshot.js'
import { createChangeChannel, type Change } from '../db/change-channel.js'
import { configRowStatements, type ConfigRow, type ConfigRowStatements } from '../db/config-rows.js'
import { DatabaseUnavailable } from '../errors.js'
import { createExplanation, type Explanation } from '../explanation.js'
import { createOutage, type Outage } from '../outage.js'
import { isMetaId, isTenantId } from '../tenant-id.js'
import { guarded } from './database.js'
import type { Env } from './env.js'
import type { Vault } from './vault.js'

declare module 'fastify' {
  interface FastifyInstance { configLoader: ConfigLoader }
}

/** What internal code gets its configurations from. */
export type ConfigLoader = Omit<ReturnType<typeof createLoader>, 'strike' | 'clear'>

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
  trust: Trust
  outage: Pick<Outage, 'isKnown' | 'report'>
}

/** What serves a tenant that has an active row. */
interface Serving {
  readonly resolved: Resolved
  readonly snapshot: ConfigSnapshot
  /** The same as a promise, made once. */
  readonly answer: Promise<ConfigSnapshot>
}

/** What there is of a tenant. */
type Entry = Serving | Absence

/**
 * Serves the configurations that internal code works with: the database first, `.env` second.
 * What the database said is kept until `strike` or `clear` is called, at most `CONFIG_CACHE_TTL_MS` milliseconds, and `CONFIG_CACHE_BLIND_TTL_MS`
 * while changes are missed. While the database is away, active rows serve for `CONFIG_STALE_IF_ERROR_MS` milliseconds more.
 */
export function createLoader ({ rows, vault, env, trust, outage }: LoaderDependencies) {
  const decision = createConfigDecision({ vault, env })
  const explained = createExplanation({ vault, decision })
  const counts: CacheCounts = { hits: 0, misses: 0, loads: 0, invalidations: 0, stale_serves: 0 }
  const bounds = {
    max: env.CONFIG_CACHE_MAX,
    ttl: env.CONFIG_CACHE_TTL_MS,
    blindTtl: env.CONFIG_CACHE_BLIND_TTL_MS,
    staleIfError: env.CONFIG_STALE_IF_ERROR_MS
  }
  const shared = { ...bounds, trust, outage, counts }
  const tenants = createConfigCache<Entry>({ ...shared, read: readTenant, outlives: isServing })
  const numbers = createLookUp(rows.activeOnNumber, (snapshot) => snapshot.getPhoneId())
  const wabas = createLookUp(rows.activeOnWaba, (snapshot) => snapshot.getWabaId())

  async function readRow (key: string): Promise<ConfigRow | undefined> {
    return (await guarded(rows.ofTenant.execute({ key })))[0]
  }

  async function readTenant (key: string): Promise<Entry> {
    return entryOf(await readRow(key))
  }

  function entryOf (row: ConfigRow | undefined): Entry {
    const resolved = decision.ofRow(row)
    if (typeof resolved === 'string') return resolved
    const snapshot = new ConfigSnapshot(resolved, false)
    return { resolved, snapshot, answer: Promise.resolve(snapshot) }
  }

  /** Finds the active tenants that have an id, and no others: whose they are is held here, their rows are those of `forTenant`. */
  function createLookUp (statement: ConfigRowStatements['activeOnNumber' | 'activeOnWaba'], idOf: (snapshot: ConfigSnapshot) => string | null) {
    const rowsOn = async (key: string) => await guarded(statement.execute({ key }))
    const cache = createConfigCache<string[]>({
      ...shared,
      read: async (key) => (await rowsOn(key)).map((row) => row.tenant_id),
      outlives: (holders) => holders.length > 0
    })

    async function find (key: string): Promise<readonly ConfigSnapshot[]> {
      if (!mayBeId(key)) return []
      const { value: holders, isStale } = await cache.get(key)
      const answers = await Promise.all(holders.map(tenants.get))
      const snapshots = answers.flatMap((answer) => isServing(answer.value) ? shown(answer.value, answer.isStale || isStale) : [])
      if (snapshots.length === holders.length && snapshots.every((snapshot) => idOf(snapshot) === key)) return snapshots
      // Something moved between the moments at which these were read. One statement sees one moment.
      if (outage.isKnown) throw new DatabaseUnavailable()
      return (await rowsOn(key)).map(entryOf).filter(isServing).map(({ snapshot }) => snapshot)
    }

    return { cache, find }
  }

  async function asked (tenantId: string): Promise<ConfigSnapshot> {
    const { value, isStale } = await tenants.get(checked(tenantId))
    return isServing(value) ? shown(value, isStale) : decision.withoutRow(value)
  }

  async function withoutRow (absence: Absence): Promise<ConfigSnapshot> {
    return decision.withoutRow(absence)
  }

  /**
   * Returns the tenant's configuration of this moment.
   * Throws `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE`, where `CONFIG_FALLBACK` says so `TENANT_INACTIVE` and
   * `CONFIG_NOT_FOUND`, and a TypeError for what cannot be a tenant id: no fault is ever answered with the `.env` values.
   */
  function forTenant (tenantId: string): Promise<ConfigSnapshot> {
    // A known tenant costs one look and no new promise.
    const entry = tenants.fresh(tenantId)
    if (entry === undefined) return asked(tenantId)
    return isServing(entry) ? entry.answer : withoutRow(entry)
  }

  /**
   * Returns the configuration of the active tenant that has the phone number, null when nobody has.
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
     * Returns the configurations of all active tenants on the WhatsApp Business Account, by tenant id.
     * Throws `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE`, and a TypeError for what is no string.
     */
    forWaba: wabas.find,

    /** `getAllConfig()` of the tenant's configuration in one call; throws what `forTenant` does. */
    getWhatsappConfig: async (tenantId: string): Promise<ConfigValues> => (await forTenant(tenantId)).getAllConfig(),

    /**
     * Returns what `forTenant` would do by what the database says now, whatever is cached, and why; it holds no secret.
     * Throws `DATABASE_UNAVAILABLE`, and a TypeError for what cannot be a tenant id.
     */
    explain: async (tenantId: string): Promise<Explanation> => explained(checked(tenantId), await readRow(tenantId)),

    /** What it has done and holds. */
    stats: (): LoaderStats => ({
      ...counts,
      entries: { tenants: tenants.size, phone_numbers: numbers.cache.size, wabas: wabas.cache.size },
      channel: performance.now() < trust.trustedUntil ? 'up' : 'down'
    }),

    /** Strikes out what is held of rows that have changed. */
    strike (changes: Change[]): void {
      counts.invalidations += changes.length
      for (const [tenantId, phoneNumberId, wabaId] of changes) {
        tenants.strike(tenantId)
        if (phoneNumberId !== null) numbers.cache.strike(phoneNumberId)
        if (wabaId !== null) wabas.cache.strike(wabaId)
      }
    },

    /** Strikes out everything. */
    clear (): void {
      counts.invalidations++
      for (const cache of [tenants, numbers.cache, wabas.cache]) cache.clear()
    }
  }
}

const isServing = (entry: Entry): entry is Serving => typeof entry === 'object'

/** The snapshot, marked if it could not be confirmed. */
const shown = ({ resolved, snapshot }: Serving, isStale: boolean) => isStale ? new ConfigSnapshot(resolved, true) : snapshot

function checked (tenantId: string): string {
  if (!isTenantId(tenantId)) throw new TypeError('a tenant id is a string of 1 to 100 characters without control characters')
  return tenantId
}

/** Whether a row can have this id. Throws a TypeError for what is no string. */
function mayBeId (id: string): boolean {
  if (typeof id !== 'string') throw new TypeError('an id of a phone number or an account is a string')
  return isMetaId(id)
}

/** Decorates `fastify.configLoader`. */
async function configLoader (fastify: FastifyInstance): Promise<void> {
  const { env, vault, tenantConfigs, database } = fastify
  const outage = createOutage({ ping: database.ping })
  const channel = createChangeChannel({
    connection: database.direct,
    notify: async (name) => { await guarded(database.orm.execute(sql`select pg_notify(${name}, '')`)) },
    log: fastify.log
  })
  const { strike, clear, ...loader } = createLoader({ rows: configRowStatements(database.orm), vault, env, trust: channel.state, outage })
  // What this process writes it sees at once.
  tenantConfigs.onChange((tenantId) => { if (tenantId === null) clear(); else strike([[tenantId, null, null]]) })
  fastify.decorate('configLoader', loader)
  fastify.addHook('onClose', async () => {
    await channel.close()
    await outage.close()
  })
  await channel.open({
    onChanges: (changes) => { if (changes === null) clear(); else strike(changes) },
    onConnect: () => {
      // It was heard through the pool. What is dropped now must be loaded, not refused.
      outage.over()
      clear()
    },
    onLoss: outage.suspect
  })
}

export default fp(configLoader, { name: 'config-loader', dependencies: ['env', 'vault', 'database', 'tenant-configs'] })
