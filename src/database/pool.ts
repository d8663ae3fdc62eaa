import { sql } from 'drizzle-orm'
import pg from 'pg'
import { isPastReadDeadline } from '../waiting/deadline.js'
import { toApiError } from './database-errors.js'
import { toQueryConfig, type Queryable, type Statement, type Values } from './statement.js'

// A lost connection repeats a read; the newer connection may be lost too.
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
// Class 08 connection · 57 operator intervention · 25P03, 25P04 the session ends ·
// 0A000, 26000, 42P05 its prepared statements do not fit.
const BREAKING_STATES = /^(08|57|25P0[34]|0A000|26000|42P05)/

type Send = (query: pg.QueryConfig) => Promise<pg.QueryResult>

/** A connection in use; `isBroken` once it is lost, or an answer is outstanding. */
interface Session { send: Send, isBroken: boolean }

export interface PooledDatabase extends Queryable {
  /**
   * Runs work in a transaction, and rolls it back when the work throws.
   *
   * @throws as `run`, and what the work throws
   */
  transaction: <T>(work: (tx: Queryable) => Promise<T>) => Promise<T>
}

/**
 * Runs statements on a pool. It keeps a connection after an error of PostgreSQL, and drops one that is lost or has an
 * answer outstanding. It retries a read whose connection was lost, on a newer one.
 */
export function createPooledDatabase (pool: pg.Pool): PooledDatabase {
  const openedAt = new WeakMap<pg.PoolClient, number>()
  pool.on('connect', (client) => {
    // The pool listens to idle clients only, and an error without a listener ends the process.
    client.on('error', () => {})
    openedAt.set(client, performance.now())
  })

  return { ...createQueryable(sendOnPool), transaction }

  async function sendOnPool (query: pg.QueryConfig): Promise<pg.QueryResult> {
    const isRead = READ.test(query.text)
    const startedAt = performance.now()
    let lostAt = -Infinity
    for (let attempt = 1; ; attempt++) {
      try {
        return await withClient(await connectNewerThan(lostAt, startedAt), async ({ send }) => await send(query))
      } catch (err) {
        if (!isRead || !isLost(err) || isPastReadDeadline(startedAt) || attempt === MAX_ATTEMPTS) throw err
        lostAt = performance.now()
      }
    }
  }

  /** Closes older idle connections: the cause often ended them all, and the pool may not have noticed. */
  async function connectNewerThan (lostAt: number, startedAt: number): Promise<pg.PoolClient> {
    for (;;) {
      const client = await pool.connect()
      if (Number(openedAt.get(client)) > lostAt || isPastReadDeadline(startedAt)) return client
      client.release(true)
    }
  }

  async function transaction<T> (work: (tx: Queryable) => Promise<T>): Promise<T> {
    return await withClient(await pool.connect().catch(rejectMapped), async (session) => {
      const tx = createQueryable(session.send)
      await tx.run(sql`begin`)
      try {
        const result = await work(tx)
        await tx.run(sql`commit`)
        return result
      } catch (err) {
        // The end of a broken connection rolls back too; a statement on it would only time out.
        if (!session.isBroken) await tx.run(sql`rollback`)
        throw err
      }
    })
  }
}

function createQueryable (send: Send): Queryable {
  return {
    run: async <Row>(statement: Statement<Row>, values?: Values): Promise<Row[]> =>
      (await send(toQueryConfig(statement, values)).catch(rejectMapped)).rows,
    count: async (statement) => Number((await send(toQueryConfig(statement)).catch(rejectMapped)).rowCount)
  }
}

function rejectMapped (err: unknown): never {
  throw toApiError(err)
}

/** Runs work on a client of the pool and releases it; the pool drops a client that is broken. */
async function withClient<T> (client: pg.PoolClient, work: (session: Session) => Promise<T>): Promise<T> {
  const session: Session = {
    isBroken: false,
    send: async (query) => await client.query(query).catch((err: unknown) => {
      session.isBroken ||= isBreaking(err)
      throw err
    })
  }
  return await work(session).finally(() => { client.release(session.isBroken) })
}

/** Whether the connection is lost, or an answer is outstanding: only an error of PostgreSQL ends a statement. */
function isBreaking (err: unknown): boolean {
  return !(err instanceof pg.DatabaseError) || BREAKING_STATES.test(String(err.code))
}

/** Whether the connection was lost; the database may be up. */
function isLost (err: unknown): boolean {
  if (err instanceof pg.DatabaseError) return LOST_STATES.test(String(err.code))
  return err instanceof Error && LOST_MESSAGES.includes(err.message)
}
