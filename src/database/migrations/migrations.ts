import { sql, type SQL } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { settings } from '../../settings/schema.js'
import { withClient, withConnection } from '../connection.js'
import { hasSqlState } from '../database-errors.js'
import { keepsSession } from '../pooler.js'
import { buildWall, describeMissing } from '../wall/wall.js'
import { FOLDER, readMigrations, readRollback, type Migration } from './files.js'
import { appliedMigrations, createJournal, recordMigration, recordRollback } from './journal.js'
import { retry, RunnerLockBusy, runScript, type Progress } from './runner.js'

interface Options extends Partial<Progress> { folder?: string }

interface MigrateOptions extends Options {
  /** DATABASE_ROLE_PREFIX. */
  rolePrefix?: string
}

const RUNNER_LOCK_TIMEOUT_MS = 10_000
const HOUR_MS = 3_600_000
const REPORT_EVERY_MS = 10_000
/** Another database of the cluster gets its wall at the same time: a role exists by now, or was just changed. */
const CONCURRENT_STATES = ['42710', '23505', 'XX000']

/** A version before 0003 holds it for the whole run, this one until it runs statements outside a transaction. */
const FORMER_LOCK = sql`hashtext('whatsapp-tenant-config migrations')`
/** Held for the whole run. No statement waits for it: CREATE INDEX CONCURRENTLY would wait for that statement. */
const RUNNER_LOCK = sql`hashtext('whatsapp-tenant-config migration runner')`

/**
 * Applies the pending migrations, then builds what the wall lacks. Many processes may call it at once; a killed run
 * may be repeated. This version or the one before may serve meanwhile.
 *
 * @param url postgres://… without a pooler in between
 * @param options `report` gets a line about each wait, and what the wall lacks at the end; `timeoutMs` (an hour) bounds
 * a migration's wait for locks
 * @returns the names of the applied migrations
 * @throws errors of PostgreSQL; an error when a lock, or the one of this process, is not free in time
 */
export async function migrate (
  url: string, { folder = FOLDER, rolePrefix = settings.DATABASE_ROLE_PREFIX.default, ...options }: MigrateOptions = {}
): Promise<string[]> {
  return await withRunnerLock(url, folder, options, async (db, known, progress) => {
    const pending = await findPending(db, known)
    for (const migration of pending) {
      if (migration.isOutsideTransaction) await unlock(db, FORMER_LOCK)
      await runScript(db, migration.tag, migration, async (tx) => { await recordMigration(tx, migration) }, progress)
    }
    const missing = await buildWall(db, rolePrefix, async (attempt) => {
      await retry('The wall', progress, attempt, CONCURRENT_STATES)
    })
    if (missing.length > 0) progress.report(describeMissing(missing))
    return pending.map(({ tag }) => tag)
  })
}

/** Returns the names of the migrations that the database lacks, oldest first; a newer schema lacks none. */
export async function pendingMigrations (db: Pick<NodePgDatabase, 'execute'>, folder = FOLDER): Promise<string[]> {
  return (await findPending(db, readMigrations(folder))).map(({ tag }) => tag)
}

async function findPending (db: Pick<NodePgDatabase, 'execute'>, known: Migration[]): Promise<Migration[]> {
  const applied = new Set(await appliedMigrations(db, known))
  return known.filter(({ when }) => !applied.has(when))
}

/**
 * Rolls the newest migration back by its file under rollback/.
 *
 * @param url as for `migrate`; so are the options
 * @param confirm gets the name of the migration before any change; no lock is held meanwhile
 * @returns the name of the migration; null when none is applied or `confirm` returned false
 * @throws as `migrate`; when the newest migration is unknown to this version, or no longer the confirmed one
 */
export async function rollback (
  url: string, confirm: (name: string) => Promise<boolean>, { folder = FOLDER, ...options }: Options = {}
): Promise<string | null> {
  const newest = await withConnection(url, async (db) => await findNewestApplied(db, readMigrations(folder)))
  if (newest === null || !await confirm(newest.tag)) return null
  const { tag } = newest
  return await withRunnerLock(url, folder, options, async (db, known, progress) => {
    if ((await findNewestApplied(db, known))?.tag !== tag) {
      throw new Error(`${tag} is no longer the newest migration of the database: nothing was undone.`)
    }
    const script = readRollback(folder, tag)
    if (script.isOutsideTransaction) await unlock(db, FORMER_LOCK)
    await runScript(db, tag, script, async (tx) => { await recordRollback(tx, newest) }, progress)
    return tag
  })
}

/** @throws when the newest applied migration is not one of this version */
async function findNewestApplied (db: NodePgDatabase, known: Migration[]): Promise<Migration | null> {
  const newest = (await appliedMigrations(db, known)).at(-1)
  if (newest === undefined) return null
  const migration = known.find(({ when }) => when === newest)
  if (migration === undefined) {
    throw new Error('The newest migration of the database is not one of this version. ' +
      'Undo it with the version that applied it.')
  }
  return migration
}

/** Runs `work` on a separate connection that holds the lock of the runner. */
async function withRunnerLock<T> (
  url: string, folder: string,
  { report = () => {}, timeoutMs = HOUR_MS, reportEveryMs = REPORT_EVERY_MS }: Partial<Progress>,
  work: (db: NodePgDatabase, known: Migration[], progress: Progress) => Promise<T>
): Promise<T> {
  const known = readMigrations(folder)
  const progress = { report, timeoutMs, reportEveryMs }
  await assertKeepsSession(url)
  return await withConnection(url, async (db) => {
    await prepareSession(db)
    await retry('Another process migrates', progress, async () => { await acquireRunnerLock(db) })
    await retry('The journal', progress, async () => { await createJournal(db, known) })
    return await work(db, known, progress)
  })
}

/** @throws behind a pooler that would lose the lock of the runner, which belongs to a session */
async function assertKeepsSession (url: string): Promise<void> {
  const isKept = await withClient(url, async (client) =>
    await withClient(url, async (other) => await keepsSession(client, other)))
  if (isKept) return
  throw new Error('A pooler in transaction mode is in front of the database, and a migration needs a connection of ' +
    'its own. Set DATABASE_DIRECT_URL to the database itself, or to a pooler in session mode.')
}

/**
 * Sets the `search_path` to the schema of our tables, then `pg_temp`: our functions keep it, and no other schema is
 * searched. Removes a statement timeout of the role or the database.
 */
async function prepareSession (db: NodePgDatabase): Promise<void> {
  await db.execute(sql`
    select set_config('statement_timeout', '0', false), set_config('lock_timeout', '500', false),
      set_config('search_path', concat_ws(', ', coalesce(
        (select relnamespace::regnamespace::text from pg_class where oid = to_regclass('tenant_configs')),
        quote_ident(current_schema())
      ), 'pg_temp'), false)`)
}

async function acquireRunnerLock (db: NodePgDatabase): Promise<void> {
  try {
    // The timeout ends with the transaction, the lock with the connection.
    await db.transaction(async (tx) => {
      await tx.execute(sql`select set_config('lock_timeout', ${RUNNER_LOCK_TIMEOUT_MS}, true)`)
      // All but one of several concurrent migrations would fail.
      await tx.execute(sql`select pg_advisory_lock(${FORMER_LOCK})`)
    })
  } catch (err) {
    if (!hasSqlState(err, '55P03')) throw err
    throw new Error('Another process migrates this database, or undoes a migration, and has not finished within ' +
      `${RUNNER_LOCK_TIMEOUT_MS / 1000} seconds. Let it finish or end it, then try again.`)
  }
  const { rows } = await db.execute(sql`select where pg_try_advisory_lock(${RUNNER_LOCK})`)
  if (rows.length > 0) return
  await unlock(db, FORMER_LOCK)
  throw new RunnerLockBusy()
}

/** Afterwards a version before 0003 may start. All migrations that it would apply are applied. */
async function unlock (db: NodePgDatabase, lock: SQL): Promise<void> {
  await db.execute(sql`select pg_advisory_unlock(${lock})`)
}
