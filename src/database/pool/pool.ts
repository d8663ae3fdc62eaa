import { sql } from 'drizzle-orm'
import type pg from 'pg'
import { toApiError } from '../database-errors.js'
import { toQueryConfig, type Queryable, type Statement, type Values } from '../statement.js'
import type { Answer } from './batch.js'
import { createConnections } from './connections.js'
import { isBreaking, isLost, isMisplaced } from './failures.js'
import { beginScope, type Scope } from './scope.js'
import { sendInSpan } from './statement-span.js'

// A lost connection repeats a read; the newer connection may be lost too.
const MAX_ATTEMPTS = 5
// The last try begins in this time after the first, and takes 4.1 s at most: the caller gets an answer within 5 s.
const RETRY_WITHIN_MS = 800
const READ = /^\s*select\b/i
const MISPLACED_MESSAGE = 'a pooler in front of the database loses prepared statements, so from now on none is ' +
  'prepared. Set DATABASE_PREPARED=false'

export interface PoolOptions {
  /** The time limit of a statement (ms). The connections of the pool set it too, unless a pooler stands in between. */
  timeoutMs: number
  isBehindPooler?: boolean
  /** Whether statements may be prepared under a name. */
  isPrepared?: boolean
  /** DATABASE_ROLE_PREFIX; undefined for a database without the wall. */
  rolePrefix?: string | undefined
  /** Pino-like. */
  log?: { warn: (text: string) => void }
}

export interface PooledDatabase extends Queryable {
  /**
   * Runs work in a transaction, and rolls it back when the work throws. After a misplaced prepared statement the work
   * runs once more.
   *
   * @throws as `run`, and what the work throws
   */
  transaction: <T>(work: (tx: Queryable) => Promise<T>) => Promise<T>
}

/** A connection in use; `isBroken` once it is lost, or an answer is outstanding. */
interface Session {
  send: (query: pg.QueryConfig, begin?: pg.QueryConfig[]) => Promise<Answer>
  isBroken: boolean
}

/**
 * Runs statements on a pool. It keeps a connection after an error of PostgreSQL, and drops one that is lost or has an
 * answer outstanding. It retries a read whose connection was lost, on a newer one. Once a pooler has misplaced a
 * prepared statement, it retries what failed, and prepares no more of them.
 */
export function createPooledDatabase (
  pool: pg.Pool, { timeoutMs, isBehindPooler = false, isPrepared = true, rolePrefix, log }: PoolOptions
): PooledDatabase & { as: (scope: Scope) => PooledDatabase } {
  const connections = createConnections(pool)
  let mayPrepare = isPrepared
  // A pooler may refuse the time limit at the login, or use the connection for others.
  const hasSettings = isBehindPooler || rolePrefix !== undefined
  const withoutScope = createScoped(hasSettings ? [beginScope({}, timeoutMs, rolePrefix)] : [])

  return {
    ...withoutScope,

    /** Returns the same database for a scope: each of its transactions carries it. */
    as: (scope) => createScoped([beginScope(scope, timeoutMs, rolePrefix)])
  }

  /** `begin` precedes the statements of each transaction. */
  function createScoped (begin: pg.QueryConfig[]): PooledDatabase {
    return {
      ...createQueryable(async (query) => await sendOnPool(begin, query)),
      transaction: async (work) => await transaction(begin, work)
    }
  }

  async function sendOnPool (begin: pg.QueryConfig[], query: pg.QueryConfig): Promise<Answer> {
    const startedAt = performance.now()
    let lostAt = startedAt
    for (let attempt = 1; ; attempt++) {
      const couldPrepare = mayPrepare
      try {
        const client = await (attempt === 1
          ? connections.take()
          : connections.takeNewerThan(lostAt, () => isPastRetry(startedAt)))
        return await sendAndRelease(client, begin, query)
      } catch (err) {
        if (isPastRetry(startedAt) || attempt === MAX_ATTEMPTS) throw err
        const isPrepared = couldPrepare && [...begin, query].some(({ name = '' }) => name !== '')
        if (!(isLost(err) && READ.test(query.text)) && !(isPrepared && stopsPreparing(err))) throw err
        lostAt = performance.now()
      }
    }
  }

  /** Sends one statement, and releases the client: as `withSession`, with fewer promises for the most used path. */
  async function sendAndRelease (
    client: pg.PoolClient, begin: pg.QueryConfig[], query: pg.QueryConfig
  ): Promise<Answer> {
    let answer: Answer
    try {
      answer = await sendNamed(client, begin, query)
    } catch (err) {
      client.release(isBreaking(err))
      throw err
    }
    client.release()
    return answer
  }

  async function transaction<T> (begin: pg.QueryConfig[], work: (tx: Queryable) => Promise<T>): Promise<T> {
    const couldPrepare = mayPrepare
    try {
      return await attemptTransaction(begin, work)
    } catch (err) {
      if (!couldPrepare || !stopsPreparing(err)) throw err
      return await attemptTransaction(begin, work)
    }
  }

  async function attemptTransaction<T> (begin: pg.QueryConfig[], work: (tx: Queryable) => Promise<T>): Promise<T> {
    return await withSession(await connections.take().catch(rejectMapped), async (session) => {
      // The first statement takes them along: they cost no round trip.
      const waiting = [{ text: 'begin' }, ...begin]
      const tx = createQueryable(async (query) => await session.send(query, waiting.splice(0)))
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

  /** Runs work on a client of the pool and releases it; the pool drops a client that is broken. */
  async function withSession<T> (client: pg.PoolClient, work: (session: Session) => Promise<T>): Promise<T> {
    const session: Session = {
      isBroken: false,
      send: async (query, begin = []) =>
        await sendNamed(client, begin, query).catch((err: unknown) => {
          session.isBroken ||= isBreaking(err)
          throw err
        })
    }
    return await work(session).finally(() => { client.release(session.isBroken) })
  }

  /** Sends statements, without their names once no more statements are prepared. */
  function sendNamed (client: pg.PoolClient, begin: pg.QueryConfig[], query: pg.QueryConfig): Promise<Answer> {
    return mayPrepare
      ? sendInSpan(client, begin, query)
      : sendInSpan(client, begin.map(withoutName), withoutName(query))
  }

  /** Whether a pooler misplaced a prepared statement, which therefore was not executed. Then no more are prepared. */
  function stopsPreparing (err: unknown): boolean {
    if (!isMisplaced(err)) return false
    if (mayPrepare) log?.warn(MISPLACED_MESSAGE)
    mayPrepare = false
    return true
  }
}

/** `send` returns the answer to the last statement. */
function createQueryable (send: (query: pg.QueryConfig) => Promise<Answer>): Queryable {
  return {
    run: async <Row>(statement: Statement<Row>, values?: Values): Promise<Row[]> => {
      // A missing value is a fault of the caller, not of the database.
      const query = toQueryConfig(statement, values)
      try {
        return (await send(query)).rows
      } catch (err) {
        throw toApiError(err)
      }
    },
    count: async (statement) => (await send(toQueryConfig(statement)).catch(rejectMapped)).count
  }
}

function rejectMapped (err: unknown): never {
  throw toApiError(err)
}

const isPastRetry = (startedAt: number) => performance.now() - startedAt > RETRY_WITHIN_MS

const withoutName = (query: pg.QueryConfig): pg.QueryConfig => ({ ...query, name: '' })
