import assert from 'node:assert'
import fastifyPostgres from '@fastify/postgres'
import { DrizzleQueryError, sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import pg from 'pg'
import { isRemoteWithoutTls, assertReachable, sessionOptions, withConnection } from './connection.js'
import { startEmbedded } from './embedded/embedded.js'
import { migrate, pendingMigrations } from './migrations/migrations.js'
import { drizzleOver } from './pool.js'
import type { PooledDb } from './prepared.js'
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
      withoutTimeout: <T>(work: (orm: NodePgDatabase) => Promise<T>) => Promise<T>
      /** Makes a client of its own, not yet connected, past any pooler. */
      unpooledClient: (config: pg.ClientConfig) => pg.Client
      /** Throws `DATABASE_UNAVAILABLE` unless the database answers. */
      ping: () => Promise<void>
      /** Throws unless the database lets a new connection in within 1.5 seconds, or says that it has too many. */
      probe: () => Promise<void>
    }
  }
}

/** Opens the pool (over the embedded PostgreSQL when there is no DATABASE_URL) and decorates `fastify.database`. Refuses to boot on a schema that is behind. */
async function database (fastify: FastifyInstance): Promise<void> {
  const { DATABASE_URL, DATABASE_DIRECT_URL, DATA_DIR, DATABASE_POOL_MAX, MIGRATE_ON_START } = fastify.env
  const embedded = DATABASE_URL === undefined || DATABASE_URL === 'embedded'
  const url = embedded ? await embed(fastify, DATA_DIR) : DATABASE_URL
  for (const [name, target] of Object.entries({ DATABASE_URL: url, DATABASE_DIRECT_URL })) {
    if (target === undefined || !isRemoteWithoutTls(target)) continue
    fastify.log.warn(`${name} leads to another machine without TLS, so what is sent can be read. Add ?sslmode=verify-full.`)
  }

  await fastify.register(fastifyPostgres, {
    name: 'tenantConfig',
    ...sessionOptions(url),
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
  const orm = drizzleOver(pool)
  await assertReadable(pool)
  const directUrl = embedded ? url : DATABASE_DIRECT_URL ?? url
  if (embedded || MIGRATE_ON_START) {
    const applied = await migrate(directUrl, { report: (line) => { fastify.log.info(line) } })
    for (const name of applied) fastify.log.info(`applied migration ${name}`)
  }
  const pending = await pendingMigrations(orm)
  if (pending.length > 0) {
    const lacking = `The database lacks the migrations ${pending.join(', ')}.`
    throw new Error(MIGRATE_ON_START
      ? `${lacking} They were applied through DATABASE_DIRECT_URL: it must lead to the same database as DATABASE_URL.`
      : `${lacking} Apply them with \`npm run db:migrate\`, or set MIGRATE_ON_START=true.`)
  }
  fastify.decorate('database', {
    orm,
    withoutTimeout: async (work) => await withConnection(url, work),
    unpooledClient: (config) => new pg.Client({ ...sessionOptions(directUrl), ...config }),
    ping: async () => { await mapDatabaseErrors(orm.execute(sql`select 1`)) },
    probe: async () => { await probe(new pg.Client({ ...sessionOptions(url), connectionTimeoutMillis: CONNECT_TIMEOUT_MS })) }
  })
}

export default fp(database, { name: 'database', dependencies: ['env'] })

async function embed (fastify: FastifyInstance, dataDir: string): Promise<string> {
  const embedded = await startEmbedded(dataDir, fastify.log)
  // Registered before the pool's own hook and so run after it: hooks of onClose run in reverse order.
  fastify.addHook('onClose', async () => { await embedded.stop() })
  return embedded.url
}

/** Throws where the service would misread what the database sends. */
async function assertReadable (pool: pg.Pool): Promise<void> {
  const settings = "select current_setting('server_encoding') as encoding, current_setting('datestyle') as datestyle"
  const { rows: [session] } = await assertReachable(pool.query<{ encoding: string, datestyle: string }>(settings))
  if (session?.encoding !== 'UTF8') throw new Error('The database is not encoded in UTF8. Create one with: create database … encoding \'UTF8\' template template0')
  // A pooler may drop the `options` that ask for ISO.
  if (!session.datestyle.startsWith('ISO')) {
    throw new Error(`The database writes dates in the style ${session.datestyle}, not ISO. Run: alter role … set datestyle = 'ISO'`)
  }
}

async function probe (client: pg.Client): Promise<void> {
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
export async function mapDatabaseErrors<T> (query: Promise<T>): Promise<T> {
  try {
    return await query
  } catch (err) {
    // drizzle's own error has the statement and every value in its message.
    throw err instanceof DrizzleQueryError ? toApiError(err.cause) : err
  }
}

// Class 08 connection · 53 resources · 57 operator intervention, statement timeout · 28, 3D, 55000 no way in · 25006 read-only standby · 55P03 lock timeout · 40 serialization, deadlock.
const UNAVAILABLE_STATES = /^(08|53|57|28|3D|40|25006|55000|55P03)/

function toApiError (cause: unknown): unknown {
  if (!(cause instanceof pg.DatabaseError)) return new DatabaseUnavailable({ cause })
  const { code: sqlstate = '', constraint } = cause
  if (sqlstate === '23505' && constraint === 'verified_identities_phone_number_id_key') return new PhoneNumberTaken()
  if (sqlstate.startsWith('22')) return new ValidationFailed()
  return UNAVAILABLE_STATES.test(sqlstate) ? new DatabaseUnavailable({ cause }) : cause
}
