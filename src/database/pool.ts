import { sql } from 'drizzle-orm'
import pg from 'pg'
import { toApiError } from './database-errors.js'
import { sendInSpan } from './statement-span.js'
import { toQueryConfig, type Queryable, type Statement, type Values } from './statement.js'

// A lost connection repeats a read; the newer connection may be lost too.
const MAX_ATTEMPTS = 5
// A request may wait twice, since it may send a second statement.
const QUEUE_TIMEOUT_MS = 1500
// The last try begins in this time after the first, and takes 4.1 s at most: the caller gets an answer within 5 s.
const RETRY_WITHIN_MS = 800
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

// The prepared statement is missing, or exists already: a pooler gave the connection to another client meanwhile.
const MISPLACED_STATES = ['26000', '42P05']
const MISPLACED_MESSAGE = 'a pooler in front of the database loses prepared statements, so from now on none is ' +
  'prepared. Set DATABASE_PREPARED=false'

type Send = (query: pg.QueryConfig) => Promise<pg.QueryResult>

export interface PoolOptions {
  /** The time limit of a statement (ms), for a pool whose connections set none. Needs a pool with `pipeline: true`. */
  statementTimeoutMs?: number | undefined
  /** Whether statements may be prepared under a name. */
  isPrepared?: boolean
  /** Pino-like. */
  log?: { warn: (text: string) => void }
}

/** A connection in use; `isBroken` once it is lost, or an answer is outstanding. */
interface Session { send: Send, isBroken: boolean }

export interface PooledDatabase extends Queryable {
  /**
   * Runs work in a transaction, and rolls it back when the work throws. After a misplaced prepared statement the work
   * runs once more.
   *
   * @throws as `run`, and what the work throws
   */
  transaction: <T>(work: (tx: Queryable) => Promise<T>) => Promise<T>
}

/**
 * Runs statements on a pool. It keeps a connection after an error of PostgreSQL, and drops one that is lost or has an
 * answer outstanding. It retries a read whose connection was lost, on a newer one. Once a pooler has misplaced a
 * prepared statement, it retries what failed, and prepares no more of them.
 */
export function createPooledDatabase (
  pool: pg.Pool, { statementTimeoutMs, isPrepared = true, log }: PoolOptions = {}
): PooledDatabase {
  const openedAt = new WeakMap<pg.PoolClient, number>()
  const begin = statementTimeoutMs === undefined
    ? 'begin'
    : `begin; set local statement_timeout = ${statementTimeoutMs}`
  let mayPrepare = isPrepared
  pool.on('connect', (client) => {
    // The pool listens to idle clients only, and an error without a listener ends the process.
    client.on('error', () => {})
    openedAt.set(client, performance.now())
  })

  return { ...createQueryable(sendOnPool), transaction }

  async function sendOnPool (given: pg.QueryConfig): Promise<pg.QueryResult> {
    const isRead = READ.test(given.text)
    const startedAt = performance.now()
    let lostAt = -Infinity
    for (let attempt = 1; ; attempt++) {
      const query = nameIfAllowed(given)
      try {
        const client = await connectNewerThan(lostAt, startedAt)
        return await withClient(client, async ({ send }) => await sendWithinTime(send, query))
      } catch (err) {
        if (isPastRetry(startedAt) || attempt === MAX_ATTEMPTS) throw err
        if (!(isRead && isLost(err)) && !(query.name && isMisplaced(err))) throw err
        lostAt = performance.now()
      }
    }
  }

  /** Leaves the name of a statement out once no more statements are prepared. */
  function nameIfAllowed (query: pg.QueryConfig): pg.QueryConfig {
    return mayPrepare ? query : { ...query, name: '' }
  }

  /** Whether a pooler misplaced a prepared statement, which therefore was not executed. Then no more are prepared. */
  function isMisplaced (err: unknown): boolean {
    if (!(err instanceof pg.DatabaseError && MISPLACED_STATES.includes(String(err.code)))) return false
    if (mayPrepare) log?.warn(MISPLACED_MESSAGE)
    mayPrepare = false
    return true
  }

  /** Sends a statement with its time limit. */
  async function sendWithinTime (send: Send, query: pg.QueryConfig): Promise<pg.QueryResult> {
    if (statementTimeoutMs === undefined) return await send(query)
    // Pipelined: one round trip. After an error `commit` rolls back.
    const sent = [send({ text: begin }), send(query), send({ text: 'commit' })] as const
    await Promise.allSettled(sent)
    const [, result] = await Promise.all(sent)
    return result
  }

  /** Waits less long for a connection in use than for a new one, which may have far to go. */
  async function connect (): Promise<pg.PoolClient> {
    const isQueued = pool.idleCount === 0 && pool.totalCount >= pool.options.max
    if (!isQueued) return await pool.connect()
    let timer: NodeJS.Timeout | undefined
    let isLate = false
    const timeout = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        isLate = true
        reject(new Error('no connection became free in time'))
      }, QUEUE_TIMEOUT_MS)
    })
    const connecting = pool.connect().then((client) => {
      if (isLate) client.release()
      return client
    })
    return await Promise.race([connecting, timeout]).finally(() => { clearTimeout(timer) })
  }

  /** Closes older idle connections: the cause often ended them all, and the pool may not have noticed. */
  async function connectNewerThan (lostAt: number, startedAt: number): Promise<pg.PoolClient> {
    for (;;) {
      const client = await connect()
      if (Number(openedAt.get(client)) > lostAt || isPastRetry(startedAt)) return client
      client.release(true)
    }
  }

  async function transaction<T> (work: (tx: Queryable) => Promise<T>): Promise<T> {
    const couldPrepare = mayPrepare
    try {
      return await attemptTransaction(work)
    } catch (err) {
      if (!couldPrepare || !isMisplaced(err)) throw err
      return await attemptTransaction(work)
    }
  }

  async function attemptTransaction<T> (work: (tx: Queryable) => Promise<T>): Promise<T> {
    return await withClient(await connect().catch(rejectMapped), async (session) => {
      const tx = createQueryable(async (query) => await session.send(nameIfAllowed(query)))
      await session.send({ text: begin }).catch(rejectMapped)
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
    send: async (query) => await sendInSpan(client, query).catch((err: unknown) => {
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

const isPastRetry = (startedAt: number) => performance.now() - startedAt > RETRY_WITHIN_MS

/** Whether the connection was lost; the database may be up. */
function isLost (err: unknown): boolean {
  if (err instanceof pg.DatabaseError) return LOST_STATES.test(String(err.code))
  return err instanceof Error && LOST_MESSAGES.includes(err.message)
}
