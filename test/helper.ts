import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import pg from 'pg'
import type { Test } from 'tap'
import { buildApp, type EnvSource } from '../src/app.js'
import { settingNames } from '../src/settings/env.js'
import { CLUSTER_DIR, TEMPLATE, URL_FILE, WATCHED } from './cluster/where.js'
import { newKey, until } from './without-database.js'

export * from './without-database.js'

export const JWT_SECRET = randomBytes(48).toString('base64')
const ENCRYPTION_KEYS = `t1:${newKey()}`

/** Tests send more requests in a minute than any client, and all from one address. */
export const withoutLimits = {
  RATE_LIMIT_ADDRESS_PER_MINUTE: '0',
  RATE_LIMIT_TENANT_PER_MINUTE: '0',
  RATE_LIMIT_META_PER_MINUTE: '0',
  RATE_LIMIT_KEY_PER_MINUTE: '0'
}

/** Settings of an app whose pool works as the login, with tables that belong to a test: no role has this prefix. */
export const withoutWall = { DATABASE_ROLE_PREFIX: 'no_wall' }

/** Settings of every test app: independent of the process environment, and without access to Meta or long waits. */
export const baseEnv = {
  DATABASE_START_TIMEOUT_MS: '0',
  NODE_ENV: 'test',
  LOG_LEVEL: 'trace',
  PORT: 0,
  JWT_SECRET,
  ENCRYPTION_KEYS,
  GRAPH_API_BASE_URL: 'http://127.0.0.1:9',
  ...withoutLimits
}

let adminPool: pg.Pool | undefined

/**
 * The pool that creates and drops the databases of this process. It stays open because a new connection to PostgreSQL
 * needs tens of milliseconds.
 */
function admin (): pg.Pool {
  if (adminPool === undefined) {
    const connectionString = readFileSync(join(CLUSTER_DIR, URL_FILE), 'utf8')
    adminPool = new pg.Pool({ connectionString, max: 1, allowExitOnIdle: true })
    adminPool.on('error', () => {})
  }
  return adminPool
}

/** The environment of a child process: these settings and no others, in any working directory. */
export function childEnv (settings: Record<string, string>): NodeJS.ProcessEnv {
  return {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !settingNames.includes(name))),
    ...settings
  }
}

/**
 * Creates a migrated database for one test and returns its URL; it is dropped when the test ends.
 * `empty` leaves out the schema. The scheduler checks the tokens of a `watched` database only.
 */
export async function createDatabase (t: Test, { empty = false, watched = false } = {}): Promise<string> {
  const name = `wtc_test_${randomBytes(8).toString('hex')}`
  await admin().query(`create database ${name} template ${empty ? 'template1' : TEMPLATE} strategy file_copy`)
  t.teardown(async () => await admin().query(`drop database ${name} with (force)`))
  const url = new URL(admin().options.connectionString ?? '')
  url.pathname = `/${name}`
  if (watched) await query(url.href, WATCHED)
  return url.href
}

/** The URL by which a service reaches a database of the tests' PostgreSQL: through the pooler of `--pooler`, if any. */
export function serviceUrl (databaseUrl: string): string {
  const pooler = process.env['TEST_POOLER_URL']
  const [url, server] = [new URL(databaseUrl), new URL(admin().options.connectionString ?? '')]
  if (pooler === undefined || url.host !== server.host || url.username !== server.username) return databaseUrl
  url.host = new URL(pooler).host
  return url.href
}

/** The option `skip` of a test about the connections of PostgreSQL, which are those of the pooler with `--pooler`. */
export const aboutConnections = {
  skip: process.env['TEST_POOLER_URL'] === undefined ? false : 'the connections are those of the pooler'
}

/** Runs one statement on a connection of its own and returns its rows. */
export async function query (url: string, text: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(text, values)).rows
  } finally {
    await client.end()
  }
}

/**
 * Like `query`, on connections that stay open until the test ends: a new one needs tens of milliseconds.
 */
export function queries (
  t: Test,
  url: string
): (text: string, values?: unknown[]) => Promise<Record<string, unknown>[]> {
  const pool = new pg.Pool({ connectionString: url, allowExitOnIdle: true })
  pool.on('error', () => {})
  t.teardown(async () => await pool.end())
  return async (text, values = []) => (await pool.query(text, values)).rows
}

/** A connection that stays open, for a transaction or a lock; closed when the test ends. */
export async function connect (t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  t.teardown(async () => await client.end())
  return client
}

/** Waits until exactly so many connections of the database wait for a lock. */
export async function untilWaiting (url: string, count: number): Promise<void> {
  const waiting = 'select count(*)::int as count from pg_stat_activity where datname = current_database() and ' +
    "wait_event_type = 'Lock'"
  // One connection for all polls: a new one for each would keep PostgreSQL busy.
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    await until(async () => (await client.query<{ count: number }>(waiting)).rows[0]?.count === count)
  } finally {
    await client.end()
  }
}

/** Makes the database unreachable for all its clients; returns the function that makes it reachable again. */
export async function makeUnreachable (url: string): Promise<() => Promise<void>> {
  const server = new URL(url)
  const name = server.pathname.slice(1)
  server.pathname = '/postgres'
  // Otherwise a busy client would reconnect before the rename.
  await query(server.href, `alter database ${name} allow_connections false`)
  await query(server.href, 'select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = $1', [name])
  await query(server.href, `alter database ${name} rename to ${name}_away`)
  return async () => {
    await query(server.href, `alter database ${name}_away rename to ${name}`)
    await query(server.href, `alter database ${name} allow_connections true`)
    // A pooler tries again a moment later.
    await until(async () => await query(serviceUrl(url), 'select').then(() => true, () => false))
  }
}

export interface TestApp {
  app: FastifyInstance
  databaseUrl: string
  /** Everything that was logged so far, at level trace. */
  log: () => string
  /** The authorization header of a tenant's token. */
  as: (tenantId: string, userId?: string) => { authorization: string }
  admin: { authorization: string }
}

/** The whole service on a database of the test's own, not listening; closed when the test ends. */
export async function buildTestApp (t: Test, env: EnvSource = {}): Promise<TestApp> {
  const databaseUrl = typeof env['DATABASE_URL'] === 'string' ? env['DATABASE_URL'] : await createDatabase(t)
  let log = ''
  const logTo = new Writable({ write (chunk, _encoding, done) { log += String(chunk); done() } })
  // A cache reserves memory for its maximum, which would slow down each start and the garbage collection.
  const database = { DATABASE_DIRECT_URL: databaseUrl, ...env, DATABASE_URL: serviceUrl(databaseUrl) }
  const app = await buildApp({ ...baseEnv, CONFIG_CACHE_MAX: 10_000, ...database }, { logTo })
  t.teardown(async () => await app.close())
  const header = (token: string) => ({ authorization: `Bearer ${token}` })
  return {
    app,
    databaseUrl,
    log: () => log,
    as: (tenantId, userId) => header(app.auth.mint({ tenantId, userId }, 60)),
    admin: header(app.auth.mint({ admin: true }, 60))
  }
}
