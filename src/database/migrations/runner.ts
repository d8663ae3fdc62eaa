import assert from 'node:assert'
import { setTimeout as pause } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { hasSqlState } from '../database-errors.js'
import type { Script } from './files.js'

type Database = Pick<NodePgDatabase, 'execute'>

export interface Progress {
  /** Gets a line for a person. */
  report: (line: string) => void
  /** Bounds the wait of one statement or transaction for locks. */
  timeoutMs: number
  /** The time between two lines about a long statement. */
  reportEveryMs: number
}

/** The last row of a batch, null after the end, and the number of its rows. */
interface Batch extends Record<string, unknown> { next: string | number | null, rows: number }

/** Another process holds the lock of the runner. */
export class RunnerLockBusy extends Error {}

/**
 * Bounds the wait of one try for its locks: reads and writes queue behind it, and a request times out after 1.6 s.
 * PostgreSQL looks for deadlocks after 1 s, so a migration times out before PostgreSQL cancels a request.
 */
const LOCK_TIMEOUT_MS = 500
const FIRST_PAUSE_MS = 250
const MAX_PAUSE_MS = 5000

const BATCHES = '-- in batches\n'
const CONCURRENTLY = /^(?:create (?:unique )?|drop )index concurrently /im
const CREATED_INDEX = /^create (?:unique )?index concurrently if not exists "(\w+)"/im

/**
 * Runs a script, and `record` in the same transaction if the script has one.
 *
 * @throws errors of PostgreSQL; an error for a person when a lock is not free in time
 */
export async function runScript (
  db: NodePgDatabase, tag: string, { statements, isOutsideTransaction }: Script,
  record: (db: Database) => Promise<void>, progress: Progress
): Promise<void> {
  if (isOutsideTransaction) {
    for (const statement of statements) await runOutsideTransaction(db, tag, statement, progress)
    await record(db)
  } else {
    await retry(tag, progress, async () => await db.transaction(async (tx) => {
      const startedAt = performance.now()
      for (const statement of statements) {
        // The transaction holds its locks until the end: the timeout is that of all statements together.
        await setLockTimeout(tx, Math.max(1, LOCK_TIMEOUT_MS - (performance.now() - startedAt)))
        await tx.execute(sql.raw(statement))
      }
      await record(tx)
    }))
  }
}

/**
 * Repeats `attempt` after a lock timeout or a deadlock, with exponential backoff, and reports each failure.
 *
 * @param states other SQLSTATEs after which it is repeated
 */
export async function retry<T> (
  name: string, { report, timeoutMs }: Progress, attempt: () => Promise<T>, states: string[] = []
): Promise<T> {
  const startedAt = performance.now()
  let tries = 0
  let lastError: unknown
  do {
    const maxPauseMs = tries === 0 ? 0 : Math.min(FIRST_PAUSE_MS * 2 ** tries, MAX_PAUSE_MS)
    // The jitter keeps two runners from colliding at each try.
    await pause(maxPauseMs * (1 + Math.random()) / 2)
    try {
      return await attempt()
    } catch (err) {
      if (!isTransient(err) && !hasSqlState(err, ...states)) throw err
      lastError = err
    }
    report(`${name}: waiting for a lock for ${toSeconds(performance.now() - startedAt)} s, try ${++tries} failed.`)
  } while (performance.now() - startedAt <= timeoutMs)
  const message = `${name}: no lock within ${toSeconds(timeoutMs)} s. ` +
    'Find the transaction that holds it in pg_locks, then run this again.'
  throw new Error(message, { cause: lastError })
}

// 55P03 lock timeout · 40P01 deadlock.
const isTransient = (err: unknown) => err instanceof RunnerLockBusy || hasSqlState(err, '55P03', '40P01')

async function setLockTimeout (db: Database, ms: number): Promise<void> {
  await db.execute(sql`select set_config('lock_timeout', ${Math.ceil(ms)}::text, false)`)
}

async function runOutsideTransaction (
  db: NodePgDatabase, tag: string, statement: string, progress: Progress
): Promise<void> {
  if (statement.startsWith(BATCHES)) {
    await runBatches(db, tag, statement, progress)
    return
  }
  const index = CREATED_INDEX.exec(statement)?.[1]
  await retry(tag, progress, async () => {
    // No request queues behind CONCURRENTLY. It waits for all open transactions, and a timeout would restart it.
    await setLockTimeout(db, CONCURRENTLY.test(statement) ? progress.timeoutMs : LOCK_TIMEOUT_MS)
    await reportWhile(tag, progress, async () => {
      if (index !== undefined) await dropInvalidIndex(db, index)
      await db.execute(sql.raw(statement))
    })
  })
}

/** A killed run leaves an invalid index, which `if not exists` would accept. */
async function dropInvalidIndex (db: Database, name: string): Promise<void> {
  const { rows } = await db.execute(sql`
    select from pg_index where indexrelid = to_regclass(${name}) and not indisvalid`)
  if (rows.length > 0) await db.execute(sql`drop index concurrently ${sql.identifier(name)}`)
}

async function reportWhile (
  tag: string, { report, reportEveryMs }: Progress, work: () => Promise<void>
): Promise<void> {
  const startedAt = performance.now()
  const timer = setInterval(() => {
    const duration = toSeconds(performance.now() - startedAt)
    report(`${tag}: running for ${duration} s; CONCURRENTLY waits for open transactions.`)
  }, reportEveryMs)
  await work().finally(() => { clearInterval(timer) })
}

/** Runs a statement for each batch, in separate transactions. `$1` is the last row of the previous batch, or null. */
async function runBatches (
  db: NodePgDatabase, tag: string, statement: string, progress: Progress
): Promise<void> {
  const parts = statement.split('$1').map((part) => sql.raw(part))
  let [last, total, reported]: [Batch['next'], number, number] = [null, 0, performance.now()]
  do {
    const batch = sql.join(parts, sql`${last}`)
    const { rows: [page] } = await retry(tag, progress, async () => await db.transaction(async (tx) => {
      await setLockTimeout(tx, LOCK_TIMEOUT_MS)
      return await tx.execute<Batch>(batch)
    }))
    // The statement is an aggregate, which always returns one row.
    assert(page !== undefined)
    last = page.next
    total += page.rows
    if (performance.now() - reported > progress.reportEveryMs) {
      reported = performance.now()
      progress.report(`${tag}: ${total} rows so far.`)
    }
  } while (last !== null)
}

const toSeconds = (ms: number) => Math.round(ms / 1000)
