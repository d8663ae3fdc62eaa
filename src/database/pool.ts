import { DrizzleQueryError } from 'drizzle-orm'
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { DatabaseUnavailable } from '../errors.js'
import { isPastReadDeadline } from '../waiting/deadline.js'
import type { PooledDb } from './prepared.js'

// A read whose connection is lost is tried again; more than once, since the newer connection may be ended too.
const MAX_ATTEMPTS = 5
const READ = /^\s*select\b/i
// Class 08 connection · 57P01 terminated · 57P02 crash of another backend · 57P05 idle session timeout.
const LOST_STATES = /^(08|57P0[125])/
const LOST_MESSAGES = [
  'Connection terminated',
  'Connection terminated unexpectedly',
  'Client has encountered a connection error and is not queryable',
  'read ECONNRESET',
  'write ECONNRESET',
  'write EPIPE'
]
// Class 08 connection · 57 operator intervention · 25P03, 25P04 the session ends · 0A000, 26000, 42P05 its prepared statements do not fit.
const BREAKING_STATES = /^(08|57|25P0[34]|0A000|26000|42P05)/

/**
 * Returns drizzle over the pool. It changes `pool.query` and has a `transaction` of its own: both keep a connection after a statement
 * that PostgreSQL refused, and part with one that is lost or still owes an answer. A read whose connection is lost is tried again on a newer one.
 */
export function drizzleOver (pool: pg.Pool): PooledDb {
  // The pool listens only while nobody uses a client; an error that nobody listens to ends the process.
  pool.on('connect', (client) => { client.on('error', () => {}) })
  Object.assign(pool, { query: queryOn(pool) })
  return Object.assign(drizzle(pool), { transaction: transactionOn(pool) })
}

function queryOn (pool: pg.Pool) {
  const openedAt = new WeakMap<pg.PoolClient, number>()
  pool.on('connect', (client) => { openedAt.set(client, performance.now()) })

  /** Closes older connections that are idle: what ended one often ends them all, and the pool may not know yet. */
  async function connectNewerThan (lostAt: number, startedAt: number): Promise<pg.PoolClient> {
    for (;;) {
      const client = await pool.connect()
      if (Number(openedAt.get(client)) > lostAt || isPastReadDeadline(startedAt)) return client
      client.release(true)
    }
  }

  return async (statement: string | pg.QueryConfig, values?: unknown[]): Promise<pg.QueryResult> => {
    const isRead = READ.test(typeof statement === 'string' ? statement : statement.text)
    const startedAt = performance.now()
    let lostAt = -Infinity
    for (let attempt = 1; ; attempt++) {
      try {
        const client = await connectNewerThan(lostAt, startedAt)
        return await withClient(client, async () => await client.query(statement, values), isBreaking)
      } catch (err) {
        if (!isRead || !isLost(err) || isPastReadDeadline(startedAt) || attempt === MAX_ATTEMPTS) throw err
        lostAt = performance.now()
      }
    }
  }
}

/** drizzle's own keeps a connection for ever on which `begin` failed, and gives one back to the pool that still waits for an answer. */
function transactionOn (pool: pg.Pool): NodePgDatabase['transaction'] {
  return async (work, config) => {
    const client = await pool.connect().catch((err: Error) => { throw new DrizzleQueryError('begin', [], err) })
    return await withClient(client, async () => await drizzle(client).transaction(work, config), (err) =>
      (err instanceof DrizzleQueryError || err instanceof DatabaseUnavailable) && isBreaking(err.cause))
  }
}

/** Runs work on a client of the pool and releases it; the pool drops it if it was lost, or if `breaks` says so of what the work throws. */
async function withClient<T> (client: pg.PoolClient, work: () => Promise<T>, breaks: (err: unknown) => boolean): Promise<T> {
  const result = work()
  await result.then(() => { client.release() }, (err: unknown) => { client.release(breaks(err)) })
  return await result
}

/** Whether the connection is lost, or still owes an answer: only an error that PostgreSQL sent ends a statement. */
function isBreaking (err: unknown): boolean {
  return !(err instanceof pg.DatabaseError) || BREAKING_STATES.test(String(err.code))
}

/** Whether the connection was lost, which says nothing of the database. */
function isLost (err: unknown): boolean {
  if (err instanceof pg.DatabaseError) return LOST_STATES.test(String(err.code))
  return err instanceof Error && LOST_MESSAGES.includes(err.message)
}
