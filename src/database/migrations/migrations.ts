import { DrizzleQueryError, sql, type SQL } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { withConnection } from '../connection.js'
import { FOLDER, readMigrations, readUndo, type Migration } from './files.js'
import { appliedMigrations, createJournal, recordMigration, recordRollback } from './journal.js'
import { retry, runScript, RunnerLockBusy, type Progress } from './runner.js'

/** `folder` holds the migrations, by default those of this version. */
interface Options extends Partial<Progress> { folder?: string }

const RUNNER_LOCK_TIMEOUT_MS = 10_000
const HOUR_MS = 3_600_000
const REPORT_EVERY_MS = 10_000

/** Held by a version before 0003 for its whole run, by this one until it runs statements outside a transaction. */
const FORMER_LOCK = sql`hashtext('whatsapp-tenant-config migrations')`
/** Held for the whole run. It is never waited for in a statement: CREATE INDEX CONCURRENTLY would wait for that one in turn. */
const RUNNER_LOCK = sql`hashtext('whatsapp-tenant-config migration runner')`

/**
 * Brings the schema up to date, through `url` (postgres://…, without a pooler in between). Safe to run from many processes at once, to
 * kill and to run again, while this version or the one before serves.
 *
 * @param options `report` takes a line about each wait; `timeoutMs` (an hour) is how long a migration may wait for locks
 * @returns the names of the migrations it applied
 * @throws what PostgreSQL refuses, and when a lock or the turn of this process does not come in time
 */
export async function migrate (url: string, { folder = FOLDER, ...options }: Options = {}): Promise<string[]> {
  return await withRunnerLock(url, folder, options, async (db, known, progress) => {
    const pending = await findPending(db, known)
    for (const migration of pending) {
      if (migration.isOutsideTransaction) await unlock(db, FORMER_LOCK)
      await runScript(db, migration.tag, migration, async (tx) => { await recordMigration(tx, migration) }, progress)
    }
    return pending.map(({ tag }) => tag)
  })
}

/**
 * Names the migrations that the database lacks, oldest first; a schema newer than this code lacks none.
 * Takes anything drizzle can query through; throws what PostgreSQL refuses.
 */
export async function pendingMigrations (db: NodePgDatabase, folder = FOLDER): Promise<string[]> {
  return (await findPending(db, readMigrations(folder))).map(({ tag }) => tag)
}

async function findPending (db: NodePgDatabase, known: Migration[]): Promise<Migration[]> {
  const applied = new Set(await appliedMigrations(db, known))
  return known.filter(({ when }) => !applied.has(when))
}

/**
 * Undoes the newest migration by its file under rollback/, in one transaction unless that file says otherwise.
 * Takes the same as `migrate`, and `confirm`, which is asked with the migration's name before anything is done, and may take its time.
 * Returns the name of what was undone, or null when nothing is applied or `confirm` said no. Throws what PostgreSQL refuses, when
 * the newest migration is one that this version does not know or is no longer the confirmed one, and like `migrate`.
 */
export async function rollback (url: string, confirm: (name: string) => Promise<boolean>, { folder = FOLDER, ...options }: Options = {}): Promise<string | null> {
  const newest = await withConnection(url, async (db) => await findNewestApplied(db, readMigrations(folder)))
  if (newest === null || !await confirm(newest.tag)) return null
  const { tag } = newest
  return await withRunnerLock(url, folder, options, async (db, known, progress) => {
    if ((await findNewestApplied(db, known))?.tag !== tag) throw new Error(`${tag} is no longer the newest migration of the database: nothing was undone.`)
    const undo = readUndo(folder, tag)
    if (undo.isOutsideTransaction) await unlock(db, FORMER_LOCK)
    await runScript(db, tag, undo, async (tx) => { await recordRollback(tx, newest) }, progress)
    return tag
  })
}

/** The newest applied migration, null when there is none. Throws when this version does not know it. */
async function findNewestApplied (db: NodePgDatabase, known: Migration[]): Promise<Migration | null> {
  const newest = (await appliedMigrations(db, known)).at(-1)
  if (newest === undefined) return null
  const migration = known.find(({ when }) => when === newest)
  if (migration === undefined) throw new Error('The newest migration of the database is not one of this version. Undo it with the version that applied it.')
  return migration
}

/** Runs `work` on a connection of its own, while no other process runs one on this database. */
async function withRunnerLock<T> (
  url: string, folder: string, { report = () => {}, timeoutMs = HOUR_MS, reportEveryMs = REPORT_EVERY_MS }: Partial<Progress>,
  work: (db: NodePgDatabase, known: Migration[], progress: Progress) => Promise<T>
): Promise<T> {
  const known = readMigrations(folder)
  const progress = { report, timeoutMs, reportEveryMs }
  return await withConnection(url, async (db) => {
    await prepareSession(db)
    await retry('Another process migrates', progress, async () => { await acquireRunnerLock(db) })
    await retry('The journal', progress, async () => { await createJournal(db, known) })
    return await work(db, known, progress)
  })
}

/**
 * The `search_path` becomes the schema of our tables, then `pg_temp`: functions of ours keep it, and nothing else is found through it.
 * Whatever the role or the database says, a statement may take its time.
 */
async function prepareSession (db: NodePgDatabase): Promise<void> {
  await db.execute(sql`
    select set_config('statement_timeout', '0', false), set_config('lock_timeout', '500', false), set_config('search_path', concat_ws(', ', coalesce(
      (select relnamespace::regnamespace::text from pg_class where oid = to_regclass('tenant_configs')), quote_ident(current_schema())
    ), 'pg_temp'), false)`)
}

async function acquireRunnerLock (db: NodePgDatabase): Promise<void> {
  try {
    // The limit goes with the transaction, the lock with the connection.
    await db.transaction(async (tx) => {
      await tx.execute(sql`select set_config('lock_timeout', ${RUNNER_LOCK_TIMEOUT_MS}, true)`)
      // Of several concurrent migrations all but one would fail.
      await tx.execute(sql`select pg_advisory_lock(${FORMER_LOCK})`)
    })
  } catch (err) {
    const isHeld = err instanceof DrizzleQueryError && err.cause instanceof pg.DatabaseError && err.cause.code === '55P03'
    throw isHeld ? new Error(`Another process migrates this database, or undoes a migration, and has not finished within ${RUNNER_LOCK_TIMEOUT_MS / 1000} seconds. Let it finish or end it, then try again.`) : err
  }
  const { rows } = await db.execute(sql`select where pg_try_advisory_lock(${RUNNER_LOCK})`)
  if (rows.length > 0) return
  await unlock(db, FORMER_LOCK)
  throw new RunnerLockBusy()
}

/** Meanwhile a version before 0003 may start. All that it would apply is applied. */
async function unlock (db: NodePgDatabase, lock: SQL): Promise<void> {
  await db.execute(sql`select pg_advisory_unlock(${lock})`)
}
