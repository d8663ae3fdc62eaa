import assert from 'node:assert'
import fastifyPostgres from '@fastify/postgres'
import { DrizzleQueryError, sql } from 'drizzle-orm'
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import pg from 'pg'
import { reached, sessionAt, withConnection } from '../db/connection.js'
import { startEmbedded } from '../db/embedded.js'
import { migrate, pendingMigrations } from '../db/migrate.js'
import type { PooledDb } from '../db/prepared.js'
import { DatabaseUnavailable, PhoneNumberTaken, ValidationFailed } from '../errors.js'

// Waiting for a connection and for one statement stays well under the 5 s within which a caller hears that the database
// is away. A second statement of a request follows only upon one that the database has just answered.
const CONNECT_TIMEOUT_MS = 1500
const QUERY_TIMEOUT_MS = 1800
const TOO_MANY_CONNECTIONS = '53300'

declare module 'fastify' {
  interface FastifyInstance {
    database: {
      /** drizzle over the pool. */
      orm: PooledDb
      /** Runs work on a connection of its own, without the time limits of the pool. */
      unhurried: <T>(work: (orm: NodePgDatabase) => Promise<T>) => Promise<T>
      /** Makes a client of its own, not yet connected, past any pooler. */
      direct: (config: pg.ClientConfig) => pg.Client
      /** Throws `DATABASE_UNAVAILABLE` unless the database answers. */
      ping: () => Promise<void>
      /** Throws unless the database lets a new connection in within 1.5 seconds, or says that it has too many. */
      knock: () => Promise<void>
    }
  }
}

/** Opens the pool (over the embedded PostgreSQL when there is no DATABASE_URL) and decorates `fastify.database`. Refuses to boot on a schema that is behind. */
async function database (fastify: FastifyInstance): Promise<void> {
  const { DATABASE_URL, DATABASE_DIRECT_URL, DATA_DIR, DATABASE_POOL_MAX, MIGRATE_ON_START } = fastify.env
  const embedded = DATABASE_URL === undefined || DATABASE_URL === 'embedded'
  const url = embedded ? await embed(fastify, DATA_DIR) : DATABASE_URL

  await fastify.register(fastifyPostgres, {
    name: 'tenantConfig',
    ...sessionAt(url),
    max: DATABASE_POOL_MAX,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
    // The server gives up first, so that what waited for a lock is not carried out after we called it failed.
    statement_timeout: QUERY_TIMEOUT_MS - 200
  })
  const pool = fastify.pg['tenantConfig']?.pool
  assert(pool !== undefined)
  // Without a listener the loss of an idle connection ends the process.
  pool.on('error', (err) => { fastify.log.warn({ err }, 'lost an idle database connection') })

  const { rows } = await reached(pool.query<{ server_encoding: string }>('show server_encoding'))
  if (!rows.some(({ server_encoding: encoding }) => encoding === 'UTF8')) throw new Error('The database is not encoded in UTF8. Create one with: create database … encoding \'UTF8\' template template0')
  const orm = Object.assign(drizzle(pool), { transaction: transactionOn(pool) })
  if (embedded || MIGRATE_ON_START) {
    for (const name of await migrate(url)) fastify.log.info(`applied migration ${name}`)
  } else {
    const pending = await pendingMigrations(orm)
    if (pending.length > 0) throw new Error(`The database lacks the migrations ${pending.join(', ')}. Apply them with \`npm run db:migrate\`, or set MIGRATE_ON_START=true.`)
  }
  fastify.decorate('database', {
    orm,
    unhurried: async (work) => await withConnection(url, work),
    direct: (config) => new pg.Client({ ...sessionAt(DATABASE_DIRECT_URL ?? url), ...config }),
    ping: async () => { await guarded(orm.execute(sql`select 1`)) },
    knock: async () => { await knock(new pg.Client({ ...sessionAt(url), connectionTimeoutMillis: CONNECT_TIMEOUT_MS })) }
  })
}

export default fp(database, { name: 'database', dependencies: ['env'] })

async function embed (fastify: FastifyInstance, dataDir: string): Promise<string> {
  const embedded = await startEmbedded(dataDir, fastify.log)
  // Registered before the pool's own hook and so run after it: hooks of onClose run in reverse order.
  fastify.addHook('onClose', async () => { await embedded.stop() })
  return embedded.url
}

/**
 * drizzle's own `transaction` keeps a connection for ever on which `begin` failed, gives one back to the pool that still waits for
 * an answer, and lets the loss of one end the process. This one parts with them, and throws `DATABASE_UNAVAILABLE` when there is none.
 */
function transactionOn (pool: pg.Pool): NodePgDatabase['transaction'] {
  return async (work, config) => {
    const client = await pool.connect().catch((cause: unknown) => { throw translated(cause) })
    const lost = () => { isBroken = true }
    let isBroken = false
    // The pool listens only while nobody uses it.
    client.on('error', lost)
    return await drizzle(client).transaction(work, config).catch((err: unknown) => {
      if (err instanceof DrizzleQueryError) isBroken = true
      throw err
    }).finally(() => {
      client.off('error', lost)
      client.release(isBroken)
    })
  }
}

async function knock (client: pg.Client): Promise<void> {
  client.on('error', () => {})
  await client.connect().catch((err: unknown) => {
    if (!(err instanceof pg.DatabaseError && err.code === TOO_MANY_CONNECTIONS)) throw err
  })
  const ended = client.end()
  // Who waits for a silent one to hear the goodbye waits for ever.
  client.connection.stream.destroy()
  await ended
}

/**
 * Waits for a query and turns what PostgreSQL or the connection says into an error that tells no value.
 * Throws `PHONE_NUMBER_TAKEN`, `VALIDATION_FAILED` for data PostgreSQL cannot hold, `DATABASE_UNAVAILABLE`, or the bare cause.
 */
export async function guarded<T> (query: Promise<T>): Promise<T> {
  try {
    return await query
  } catch (err) {
    // drizzle's own error has the statement and every value in its message.
    throw err instanceof DrizzleQueryError ? translated(err.cause) : err
  }
}

// Class 08 connection · 53 resources · 57 operator intervention, statement timeout · 28, 3D, 55000 no way in · 25006 read-only standby · 55P03 lock timeout · 40 serialization, deadlock.
const AWAY = /^(08|53|57|28|3D|40|25006|55000|55P03)/

function translated (cause: unknown): unknown {
  if (!(cause instanceof pg.DatabaseError)) return new DatabaseUnavailable({ cause })
  const { code: sqlstate = '', constraint } = cause
  if (sqlstate === '23505' && constraint === 'tenant_configs_phone_number_id_key') return new PhoneNumberTaken()
  if (sqlstate.startsWith('22')) return new ValidationFailed()
  return AWAY.test(sqlstate) ? new DatabaseUnavailable({ cause }) : cause
}
