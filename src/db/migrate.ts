import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { migrate as runMigrations } from 'drizzle-orm/node-postgres/migrator'
import { withConnection } from './connection.js'

interface JournalEntry { tag: string, when: number }

const folder = fileURLToPath(new URL('../../drizzle', import.meta.url))
const journal: JournalEntry[] = JSON.parse(readFileSync(`${folder}/meta/_journal.json`, 'utf8')).entries

/**
 * Brings the schema up to date. Safe to run from many processes at once: they take turns.
 * Takes a postgres:// URL; returns the names of the migrations it applied; throws what PostgreSQL refuses.
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
 * Takes a postgres:// URL and `confirm`, which is asked with the migration's name before anything is done.
 * Returns the name of what was undone, or null when nothing is applied or `confirm` said no. Throws what PostgreSQL refuses, and
 * when the newest migration is one that this version does not know.
 */
export async function rollback (url: string, confirm: (name: string) => Promise<boolean>): Promise<string | null> {
  return await alone(url, async (db) => {
    const newest = await newestApplied(db)
    if (newest === 0) return null
    const entry = journal.find(({ when }) => when === newest)
    if (entry === undefined) throw new Error('The newest migration of the database is not one of this version. Undo it with the version that applied it.')
    if (!await confirm(entry.tag)) return null
    const undo = await readFile(`${folder}/rollback/${entry.tag}.sql`, 'utf8')
    await db.transaction(async (tx) => {
      await tx.execute(sql.raw(undo))
      await tx.execute(sql`delete from drizzle.__drizzle_migrations where created_at = ${newest}`)
    })
    return entry.tag
  })
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
    // Of several concurrent migrations all but one would fail; the lock goes with the connection.
    await db.execute(sql`select pg_advisory_lock(hashtext('whatsapp-tenant-config migrations'))`)
    return await work(db)
  })
}
