import { timingSafeEqual } from 'node:crypto'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Audit } from '../audit/audit.js'
import { createConfigCache } from '../config-loader/cache.js'
import { createOutageDetector, type OutageDetector } from '../config-loader/outage-detector.js'
import { createReadLimiter } from '../config-loader/read-limiter.js'
import type { Database } from '../database/database.js'
import { onlyRow, type Prepared } from '../database/statement.js'
import { InvalidCursor, ServiceKeyNotFound } from '../errors.js'
import type { ServiceKeyCreate } from '../schemas/services/service-keys.js'
import type { Env } from '../settings/env.js'
import { createKey, hashOf, idOf, isKeyId } from './key-text.js'
import { createReadAudit } from './read-audit.js'
import { find, insertQuery, listQuery, removeQuery, useQuery, type ShownKey } from './service-keys.sql.js'

export { isServiceKey } from './key-text.js'

declare module 'fastify' {
  interface FastifyInstance { serviceKeys: ServiceKeys }
}

/** A key that was sent. */
export interface ServiceKey {
  id: string
  scopes: string[]
  /** The only tenants that it may read; null for all. */
  tenants: string[] | null
}

interface StoredKey extends ServiceKey {
  hash: Buffer
  /** Milliseconds since 1970; Infinity for a key without end. */
  expiresAt: number
  isUseDue: boolean
}

export type ServiceKeys = ReturnType<typeof createServiceKeys>

/** A deleted key is admitted for so long, by processes that have cached it; a second is promised. */
const MAX_AGE_MS = 500
const MAX_CACHED = 10_000
/** Reads of keys at once. Unknown keys that somebody tries leave the other connections to the requests. */
const MAX_READS = 2

interface ServiceKeysDependencies {
  database: Pick<Database, 'run' | 'count'>
  env: Pick<Env, 'CONFIG_STALE_IF_ERROR_MS'>
  detector: Pick<OutageDetector, 'isDown' | 'reportFailure'>
  audit: Pick<Audit, 'recordKeyReads'>
  log: Pick<FastifyBaseLogger, 'warn'>
}

/**
 * Creates the access to the keys of code in other languages. The database has their hashes alone. All methods throw
 * `DATABASE_UNAVAILABLE`.
 */
export function createServiceKeys ({ database, env, detector, audit, log }: ServiceKeysDependencies) {
  const reads = createReadAudit(audit.recordKeyReads)
  const cache = createConfigCache<StoredKey | null>({
    max: MAX_CACHED,
    ttl: MAX_AGE_MS,
    blindTtl: MAX_AGE_MS,
    staleIfError: env.CONFIG_STALE_IF_ERROR_MS,
    // Nobody notifies of a deletion: a read each half second, at most, costs less than a trigger and its listener.
    listenerHealth: { lastConfirmedAt: -Infinity, validUntil: -Infinity },
    detector,
    counts: { hits: 0, misses: 0, loads: 0, invalidations: 0, stale_serves: 0 },
    limitRead: createReadLimiter(MAX_READS),
    read: async (id) => (await database.run(find, { id })).map(toStoredKey)[0] ?? null,
    canServeStale: (key) => key !== null
  })
  let writing = Promise.resolve()

  return {
    /**
     * Returns the key that a bearer token is: null for an unknown or deleted one, `expired` for one past its end. While
     * the database is away, a key that was used in the last `CONFIG_STALE_IF_ERROR_MS` counts as it was.
     */
    async authenticate (token: string): Promise<ServiceKey | 'expired' | null> {
      const id = idOf(token)
      if (id === undefined) return null
      // The most frequent case makes no second promise.
      const key = cache.peekFresh(id) ?? (await cache.get(id)).value
      if (key === null || !timingSafeEqual(Buffer.from(hashOf(token)), key.hash)) return null
      if (Date.now() >= key.expiresAt) return 'expired'
      if (key.isUseDue) noteUse(key)
      return key
    },

    /** Creates a key. Its answer alone shows it. */
    async create (
      { name, scopes, tenants, expires_at }: ServiceKeyCreate, createdBy: string | null | undefined
    ): Promise<ShownKey & { key: string }> {
      const { id, key } = createKey()
      const values = { id, name, scopes, tenants, expires_at, created_by: createdBy, hash: hashOf(key) }
      return { ...onlyRow(await database.run(insertQuery(values))), key }
    },

    /**
     * Returns a page of keys, the newest first.
     *
     * @returns `next`: the cursor of the next page; null on the last one
     * @throws INVALID_CURSOR
     */
    async list (
      { limit, cursor }: { limit: number, cursor?: string | undefined }
    ): Promise<{ keys: ShownKey[], next: string | null }> {
      if (cursor !== undefined && !isKeyId(cursor)) throw new InvalidCursor()
      const rows = await database.run(listQuery(cursor, limit + 1))
      // The last key of the page, when another one follows.
      const [last] = rows.slice(limit - 1, -1)
      return { keys: rows.slice(0, limit), next: last?.id ?? null }
    },

    /**
     * Deletes a key. This process admits it no longer; others for half a second at most.
     *
     * @throws SERVICE_KEY_NOT_FOUND
     */
    async remove (id: string): Promise<void> {
      const count = await database.count(removeQuery(id)).finally(() => { cache.invalidate(id) })
      if (count === 0) throw new ServiceKeyNotFound()
    },

    /** Whether a key may read a tenant; without a tenant id, whether it may read all tenants. */
    mayRead: ({ tenants }: ServiceKey, tenantId: unknown): boolean =>
      tenants === null || (typeof tenantId === 'string' && tenants.includes(tenantId)),

    /** Counts a read of secrets; see `createReadAudit`. */
    addRead: reads.add,

    start: reads.start,

    /** Waits for the writes, and records the reads that are not yet recorded. */
    async stop (): Promise<void> {
      await reads.stop()
      await writing
    }
  }

  /** One after the other: they may wait, and the connections are for the requests. */
  function noteUse (key: StoredKey): void {
    key.isUseDue = false
    writing = writing.then(async () => {
      await database.run(useQuery(key.id))
    }).catch((err: unknown) => { log.warn({ err }, 'the use of a service key could not be noted') })
  }
}

type FoundKey = typeof find extends Prepared<infer Row> ? Row : never

function toStoredKey ({ id, scopes, tenants, hash, expires_at: expiry, is_use_due: isUseDue }: FoundKey): StoredKey {
  const expiresAt = expiry === null ? Infinity : Date.parse(expiry)
  return { id, scopes, tenants, hash: Buffer.from(hash), expiresAt, isUseDue }
}

/** Decorates `fastify.serviceKeys`. */
async function serviceKeys (fastify: FastifyInstance): Promise<void> {
  const { database, env, audit, log } = fastify
  const detector = createOutageDetector({ probe: database.probe })
  const keys = createServiceKeys({ database, env, detector, audit, log })
  fastify.decorate('serviceKeys', keys)
  fastify.addHook('onReady', async () => { keys.start() })
  // Runs before the hooks of the audit log and the database, which were registered earlier.
  fastify.addHook('onClose', async () => {
    await detector.close()
    await keys.stop()
  })
}

export default fp(serviceKeys, { name: 'service-keys', dependencies: ['env', 'database', 'audit'] })
