import assert from 'node:assert'
import { setTimeout as pause } from 'node:timers/promises'
import { DrizzleQueryError, sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import type { Script } from './files.js'

type Database = Pick<NodePgDatabase, 'execute'>

/** How a run reports, and how long it may wait. */
export interface Progress {
  /** Takes a line for a person. */
  report: (line: string) => void
  /** Milliseconds that one statement or transaction may wait for locks. */
  timeoutMs: number
  /** Milliseconds between two lines about a statement that runs long. */
  reportEveryMs: number
}

/** The last row of a batch, null after the end, and the number of its rows. */
interface Batch extends Record<string, unknown> { next: string | number | null, rows: number }

/** Another process has its turn. */
export class RunnerLockBusy extends Error {}

/**
 * The longest wait for the locks of one try: reads and writes queue behind it. A request lives for 1.6 s. PostgreSQL looks for
 * deadlocks after 1 s, so that a migration gives way before a request has to.
 */
const LOCK_TIMEOUT_MS = 500
const FIRST_PAUSE_MS = 250
const LONGEST_PAUSE_MS = 5000

const BATCHES = '-- in batches\n'
const CONCURRENTLY = /^(?:create (?:unique )?|drop )index concurrently /im
const CREATED_INDEX = /^create (?:unique )?index concurrently if not exists "(\w+)"/im

/**
 * Runs a script, and `record` in the same transaction if the script has one.
 * Throws what PostgreSQL refuses, and an error for a person when a lock does not come in time.
 */
export async function runScript (
  db: NodePgDatabase, tag: string, { statements, isOutsideTransaction }: Script, record: (db: Database) => Promise<void>, progress: Progress
): Promise<void> {
  if (isOutsideTransaction) {
    for (const statement of statements) await runOutsideTransaction(db, tag, statement, progress)
    await record(db)
  } else {
    await retry(tag, progress, async () => await db.transaction(async (tx) => {
      const began = performance.now()
      for (const statement of statements) {
        // Its locks are held until the end: 500 ms is what all statements together may wait.
        await setLockTimeout(tx, Math.max(1, LOCK_TIMEOUT_MS - (performance.now() - began)))
        await tx.execute(sql.raw(statement))
      }
      await record(tx)
    }))
  }
}

/** Repeats `attempt` while a lock keeps it from succeeding, after longer and longer pauses, and reports each try that failed. */
export async function retry<T> (name: string, { report, timeoutMs }: Progress, attempt: () => Promise<T>): Promise<T> {
  const began = performance.now()
  let tries = 0
  let lastError: unknown
  do {
    const longest = tries === 0 ? 0 : Math.min(FIRST_PAUSE_MS * 2 ** tries, LONGEST_PAUSE_MS)
    // Random, so that two runners do not meet each time.
    await pause(longest * (1 + Math.random()) / 2)
    try {
      return await attempt()
    } catch (err) {
      if (!isLockTimeout(err)) throw err
      lastError = err
    }
    report(`${name}: waiting for a lock for ${toSeconds(performance.now() - began)} s, try ${++tries} failed.`)
  } while (performance.now() - began <= timeoutMs)
  throw new Error(`${name}: no lock within ${toSeconds(timeoutMs)} s. Find the transaction that holds it in pg_locks, then run this again.`, { cause: lastError })
}

// 55P03 lock timeout · 40P01 deadlock.
function isLockTimeout (err: unknown): boolean {
  return err instanceof RunnerLockBusy ||
    (err instanceof DrizzleQueryError && err.cause instanceof pg.DatabaseError && ['55P03', '40P01'].includes(String(err.cause.code)))
}

async function setLockTimeout (db: Database, ms: number): Promise<void> {
  await db.execute(sql`select set_config('lock_timeout', ${Math.ceil(ms)}::text, false)`)
}

/** Runs a statement of a script that has no transaction. */
async function runOutsideTransaction (db: NodePgDatabase, tag: string, statement: string, progress: Progress): Promise<void> {
  if (statement.startsWith(BATCHES)) {
    await runBatches(db, tag, statement, progress)
    return
  }
  const index = CREATED_INDEX.exec(statement)?.[1]
  await retry(tag, progress, async () => {
    // Nobody queues behind CONCURRENTLY. It waits for each open transaction, and would have to begin anew after a timeout.
    await setLockTimeout(db, CONCURRENTLY.test(statement) ? progress.timeoutMs : LOCK_TIMEOUT_MS)
    await reportWhile(tag, progress, async () => {
      if (index !== undefined) await dropInvalidIndex(db, index)
      await db.execute(sql.raw(statement))
    })
  })
}

/** A killed run leaves an invalid index, which `if not exists` would take for a finished one. */
async function dropInvalidIndex (db: Database, name: string): Promise<void> {
  const { rows } = await db.execute(sql`select from pg_index where indexrelid = to_regclass(${name}) and not indisvalid`)
  if (rows.length > 0) await db.execute(sql`drop index concurrently ${sql.identifier(name)}`)
}

async function reportWhile (tag: string, { report, reportEveryMs }: Progress, work: () => Promise<void>): Promise<void> {
  const began = performance.now()
  const timer = setInterval(() => {
    report(`${tag}: running for ${toSeconds(performance.now() - began)} s; CONCURRENTLY waits for open transactions.`)
  }, reportEveryMs)
  await work().finally(() => { clearInterval(timer) })
}

/** Runs a statement once for each batch, in a transaction of its own. `$1` is the last row of the batch before, null at first. */
async function runBatches (db: NodePgDatabase, tag: string, statement: string, progress: Progress): Promise<void> {
  const parts = statement.split('$1').map((part) => sql.raw(part))
  let [last, total, reported]: [Batch['next'], number, number] = [null, 0, performance.now()]
  do {
    const batch = sql.join(parts, sql`${last}`)
    const { rows: [page] } = await retry(tag, progress, async () => await db.transaction(async (tx) => {
      await setLockTimeout(tx, LOCK_TIMEOUT_MS)
      return await tx.execute<Batch>(batch)
    }))
    // Its statement is an aggregate, which always answers one row.
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
