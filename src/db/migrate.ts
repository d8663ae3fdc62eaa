import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { DrizzleQueryError, sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { migrate as runMigrations } from 'drizzle-orm/node-postgres/migrator'
import pg from 'pg'
import { withConnection } from './connection.js'

interface JournalEntry { tag: string, when: number }

const LOCK_TIMEOUT_MS = 10_000

const folder = fileURLToPath(new URL('../../drizzle', import.meta.url))
const journal: JournalEntry[] = JSON.parse(readFileSync(`${folder}/meta/_journal.json`, 'utf8')).entries

/**
 * Brings the schema up to date. Safe to run from many processes at once: they take turns.
 * Takes a postgres:// URL; returns the names of the migrations it applied; throws what PostgreSQL refuses, and when its turn
 * does not come within 10 seconds.
 */
export async function migrate (url: string): Promise<string[]> {
  return await alone(url, async (db) => {
    const pending = await pendingMigrations(db)
    if (pending.length > 0) await runMigrations(db, { migrationsFolder: folder })
    return pending
  })
}

/**
 * Names the migrations that the database lacks, oldest first; a schema newer than this code lacks none.
 * Takes anything drizzle can query through; throws what PostgreSQL refuses.
 */
export async function pendingMigrations (db: NodePgDatabase): Promise<string[]> {
  const newest = await newestApplied(db)
  return journal.filter((entry) => entry.when > newest).map((entry) => entry.tag)
}

/**
 * Undoes the newest migration in one transaction, by its file under drizzle/rollback/.
 * Takes a postgres:// URL and `confirm`, which is asked with the migration's name before anything is done, and may take its time.
 * Returns the name of what was undone, or null when nothing is applied or `confirm` said no. Throws what PostgreSQL refuses, when
 * the newest migration is one that this version does not know or is no longer the confirmed one, and like `migrate`.
 */
export async function rollback (url: string, confirm: (name: string) => Promise<boolean>): Promise<string | null> {
  const newest = await withConnection(url, newestOfOurs)
  if (newest === null || !await confirm(newest.tag)) return null
  const { tag, when } = newest
  return await alone(url, async (db) => {
    if ((await newestOfOurs(db))?.tag !== tag) throw new Error(`${tag} is no longer the newest migration of the database: nothing was undone.`)
    const undo = await readFile(`${folder}/rollback/${tag}.sql`, 'utf8')
    await db.transaction(async (tx) => {
      await tx.execute(sql.raw(undo))
      await tx.execute(sql`delete from drizzle.__drizzle_migrations where created_at = ${when}`)
    })
    return tag
  })
}

/** The newest applied migration, null when there is none. Throws when this version does not know it. */
async function newestOfOurs (db: NodePgDatabase): Promise<JournalEntry | null> {
  const newest = await newestApplied(db)
  if (newest === 0) return null
  const entry = journal.find(({ when }) => when === newest)
  if (entry === undefined) throw new Error('The newest migration of the database is not one of this version. Undo it with the version that applied it.')
  return entry
}

/** When the newest applied migration was made (unix milliseconds), 0 when there is none. */
async function newestApplied (db: NodePgDatabase): Promise<number> {
  const known = await db.execute<{ table: string | null }>(sql`select to_regclass('drizzle.__drizzle_migrations') as table`)
  if (known.rows[0]?.table === null) return 0
  const applied = await db.execute<{ newest: string | null }>(sql`select max(created_at) as newest from drizzle.__drizzle_migrations`)
  return Number(applied.rows[0]?.newest)
}

/** Runs `work` while no other process runs one here. */
async function alone<T> (url: string, work: (db: NodePgDatabase) => Promise<T>): Promise<T> {
  return await withConnection(url, async (db) => {
    await takeTurn(db)
    return await work(db)
  })
}

async function takeTurn (db: NodePgDatabase): Promise<void> {
  try {
    // The limit goes with the transaction, the lock with the connection.
    await db.transaction(async (tx) => {
      await tx.execute(sql`select set_config('lock_timeout', ${LOCK_TIMEOUT_MS}, true)`)
      // Of several concurrent migrations all but one would fail.
      await tx.execute(sql`select pg_advisory_lock(hashtext('whatsapp-tenant-config migrations'))`)
    })
  } catch (err) {
    const isHeld = err instanceof DrizzleQueryError && err.cause instanceof pg.DatabaseError && err.cause.code === '55P03'
    throw isHeld ? new Error(`Another process migrates this database, or undoes a migration, and has not finished within ${LOCK_TIMEOUT_MS / 1000} seconds. Let it finish or end it, then try again.`) : err
  }
}
