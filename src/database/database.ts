import assert from 'node:assert'
import fastifyPostgres from '@fastify/postgres'
import { sql } from 'drizzle-orm'
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import pg from 'pg'
import {
  assertReadable, isRemoteWithoutTls, sessionOptions, withClient, withConnection, withReader, type Reader
} from './connection.js'
import { startEmbedded } from './embedded/embedded.js'
import { migrate, pendingMigrations } from './migrations/migrations.js'
import { retryDeadlock } from './database-errors.js'
import { createPooledDatabase, type PooledDatabase, type PoolOptions } from './pool/pool.js'
import { isPooled } from './pooler.js'
import { reconcile } from './reconcile.js'
import { describeMissing, findMissingParts } from './wall/wall.js'

// The wait for a connection and one statement stays below the 5 s within which a caller gets an answer. A request sends
// a second statement only after the database has answered the first. A connection with TLS takes six round trips.
const CONNECT_TIMEOUT_MS = 2300
const QUERY_TIMEOUT_MS = 1800
// The server times out first: a statement that we reported as failed must not run later.
const STATEMENT_TIMEOUT_MS = QUERY_TIMEOUT_MS - 200
/**
 * A burst of requests is slow when it finds no idle connections: new ones take time, and have planned no statement.
 * Azure drops an idle one after 4 minutes. Source: learn.microsoft.com/azure/load-balancer/load-balancer-tcp-reset
 */
const IDLE_TIMEOUT_MS = 180_000
/** A pooler may accept the connection while PostgreSQL is away. */
const EXAMINE_TIMEOUT_MS = 5000
const TOO_MANY_CONNECTIONS = '53300'

declare module 'fastify' {
  interface FastifyInstance { database: Database }
}

export type Database = ReturnType<typeof createDatabase>

interface DatabaseDependencies extends Pick<PoolOptions, 'isPrepared' | 'rolePrefix' | 'log'> {
  pool: pg.Pool
  /** The postgres:// URL of the pool. */
  url: string
  /** Whether a pooler stands in front of that. */
  isBehindPooler: boolean
  /** That of the same database without a pooler in between. */
  directUrl: string
}

/** Creates the access to the database: through a pool, and by separate connections. */
export function createDatabase ({ pool, url, directUrl, isBehindPooler, ...options }: DatabaseDependencies) {
  const pooled = createPooledDatabase(pool, { ...options, isBehindPooler, timeoutMs: STATEMENT_TIMEOUT_MS })
  // Once: they read the files of certificates, which may be replaced or removed later.
  const [throughPooler, direct] = [sessionOptions(url), sessionOptions(directUrl)]
  return {
    ...pooled,
    retryDeadlock,

    /** Returns the database with the rows of one tenant, for its own requests; `actor` is the `sub` of the token. */
    ofTenant: (tenantId: string, actor?: string | null): PooledDatabase =>
      pooled.as({ role: 'tenant', tenantId, actor }),

    /** Runs work on a separate connection, without the timeouts of the pool. */
    withoutTimeout: async <T>(work: (db: NodePgDatabase) => Promise<T>): Promise<T> => await withConnection(url, work),

    /** Runs reads on a separate connection, each within `timeoutMs`; see `withReader`. */
    read: async <T>(work: (db: Reader) => Promise<T>, timeoutMs: number): Promise<T> =>
      await withReader(url, work, { timeoutMs }),

    /** Repairs rows that were loaded while the triggers were off; see `reconcile`. */
    reconcile: async (): Promise<Record<string, number>> => await reconcile(url),

    /** Creates a separate client that bypasses any pooler, not yet connected. */
    unpooledClient: (config: pg.ClientConfig): pg.Client =>
      new pg.Client({ ...direct, ...config }),

    /**
     * Sends an empty notification on a channel, through the pool.
     *
     * @throws DATABASE_UNAVAILABLE
     */
    notify: async (channel: string): Promise<void> => { await pooled.run(sql`select pg_notify(${channel}, '')`) },

    /** @throws DATABASE_UNAVAILABLE when the database does not answer */
    ping: async (): Promise<void> => { await pooled.run(sql`select 1`) },

    /** @throws when the database neither accepts a connection within 2.3 seconds nor reports too many of them */
    probe: async (): Promise<void> => {
      const timeouts = { connectionTimeoutMillis: CONNECT_TIMEOUT_MS, query_timeout: CONNECT_TIMEOUT_MS }
      const client = new pg.Client({ ...throughPooler, ...timeouts })
      // A pooler accepts connections while PostgreSQL is away.
      await probe(client, isBehindPooler ? async () => await client.query('select 1') : async () => {})
    }
  }
}

/**
 * Opens the pool, of the embedded PostgreSQL when DATABASE_URL is unset, and decorates `fastify.database`.
 *
 * @throws when the schema lacks a migration
 */
async function database (fastify: FastifyInstance): Promise<void> {
  const { DATABASE_URL, DATABASE_DIRECT_URL, DATABASE_ROLE_PREFIX, DATA_DIR, MIGRATE_ON_START } = fastify.env
  const isEmbedded = DATABASE_URL === undefined || DATABASE_URL === 'embedded'
  const url = isEmbedded ? await embed(fastify, DATA_DIR) : DATABASE_URL
  for (const [name, target] of Object.entries({ DATABASE_URL: url, DATABASE_DIRECT_URL })) {
    if (target === undefined || !isRemoteWithoutTls(target)) continue
    fastify.log.warn(`${name} leads to another machine without TLS, so what is sent can be read. ` +
      'Add ?sslmode=verify-full.')
  }

  const isBehindPooler = await examine(fastify, url)
  await fastify.register(fastifyPostgres, {
    name: 'tenantConfig',
    ...sessionOptions(url),
    max: fastify.env.DATABASE_POOL_MAX,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
    // A pooler may refuse the parameter at the login, or use the connection for others: each transaction sets it.
    ...(isBehindPooler ? {} : { statement_timeout: STATEMENT_TIMEOUT_MS })
  })
  const pool = fastify.pg['tenantConfig']?.pool
  assert(pool !== undefined)
  // Without a listener the loss of an idle connection ends the process.
  pool.on('error', (err) => { fastify.log.warn({ err }, 'lost an idle database connection') })
  // That of a connection in use, too. The checks below open one before `createDatabase` sees the pool.
  pool.on('connect', (client) => { client.on('error', () => {}) })
  const directUrl = isEmbedded ? url : DATABASE_DIRECT_URL ?? url
  if (isEmbedded || MIGRATE_ON_START) {
    const applied = await migrate(directUrl, {
      rolePrefix: DATABASE_ROLE_PREFIX, report: (line) => { fastify.log.info(line) }
    })
    for (const name of applied) fastify.log.info(`applied migration ${name}`)
  }
  const pending = await pendingMigrations(drizzle(pool))
  if (pending.length > 0) {
    const lacking = `The database lacks the migrations ${pending.join(', ')}.`
    throw new Error(MIGRATE_ON_START
      ? `${lacking} They were applied through DATABASE_DIRECT_URL: it must lead to the same database as DATABASE_URL.`
      : `${lacking} Apply them with \`npm run db:migrate\`, or set MIGRATE_ON_START=true.`)
  }
  const hasWall = await examineWall(fastify, drizzle(pool))
  fastify.decorate('database', createDatabase({
    pool,
    url,
    directUrl,
    isBehindPooler,
    isPrepared: fastify.env.DATABASE_PREPARED,
    rolePrefix: hasWall ? DATABASE_ROLE_PREFIX : undefined,
    log: fastify.log
  }))
}

export default fp(database, { name: 'database', dependencies: ['env'] })

/** Waits for the database. Returns whether a pooler stands in front of it. */
async function examine ({ env, log }: FastifyInstance, url: string): Promise<boolean> {
  const waiting = { timeoutMs: env.DATABASE_START_TIMEOUT_MS, report: (line: string) => { log.warn(line) } }
  return await withClient(url, async (client) => {
    await assertReadable(client)
    return await isPooled(client)
  }, waiting, { query_timeout: EXAMINE_TIMEOUT_MS })
}

/**
 * Returns whether the wall is complete.
 *
 * @throws with DATABASE_WALL=required, when it is not, and when the login would see no rows; the error has the SQL
 */
async function examineWall ({ env, log }: FastifyInstance, db: NodePgDatabase): Promise<boolean> {
  const missing = await findMissingParts(db, env.DATABASE_ROLE_PREFIX)
  if (missing.length === 0) return true
  if (missing.some(({ blinds }) => blinds === true)) throw new Error(describeMissing(missing))
  if (env.DATABASE_WALL === 'required') {
    throw new Error(`${describeMissing(missing)}\nOr start without the wall: DATABASE_WALL=if-possible.`)
  }
  log.warn(`${describeMissing(missing)}\nUntil then only the queries of the service keep the tenants apart.`)
  return false
}

async function embed (fastify: FastifyInstance, dataDir: string): Promise<string> {
  const embedded = await startEmbedded(dataDir, fastify.log)
  // onClose hooks run in reverse order: this one runs after the pool's own, which is added later.
  fastify.addHook('onClose', async () => { await embedded.stop() })
  return embedded.url
}

async function probe (client: pg.Client, ask: () => Promise<unknown>): Promise<void> {
  client.on('error', () => {})
  try {
    await client.connect()
    await ask()
  } catch (err) {
    if (!(err instanceof pg.DatabaseError && err.code === TOO_MANY_CONNECTIONS)) throw err
  } finally {
    const ended = client.end()
    // `end` alone would wait forever for a server that does not answer.
    client.connection.stream.destroy()
    await ended
  }
}
