import { sql, type SQL } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { Migration } from './files.js'

type Database = Pick<NodePgDatabase, 'execute'>

const JOURNAL = sql.raw('drizzle.__whatsapp_tenant_config_migrations')
/** The journal of every application that migrates with drizzle. Versions before 0003 kept ours there, and read it when they start. */
const SHARED_JOURNAL = sql.raw('drizzle.__drizzle_migrations')

/** Returns when the applied migrations were made (Unix milliseconds), oldest first; before the take-over as the shared journal has them. */
export async function appliedMigrations (db: Database, known: Migration[]): Promise<number[]> {
  const entries = await hasJournal(db) ? sql`select created_at from ${JOURNAL}` : await selectOwnEntries(db, known)
  const { rows } = await db.execute<{ created_at: string }>(sql`select created_at from (${entries}) as entry order by created_at`)
  return rows.map(({ created_at: when }) => Number(when))
}

/** Makes our journal unless there is one, with our entries of the shared one. They stay there for a former version. */
export async function createJournal (db: NodePgDatabase, known: Migration[]): Promise<void> {
  if (await hasJournal(db)) return
  await db.transaction(async (tx) => {
    const { rows } = await tx.execute(sql`select from pg_namespace where nspname = 'drizzle'`)
    // `if not exists` would need the right to create schemas even where there is one.
    if (rows.length === 0) await tx.execute(sql`create schema drizzle`)
    await tx.execute(sql`create table ${JOURNAL} (created_at bigint primary key, hash text not null)`)
    await tx.execute(sql`insert into ${JOURNAL} (created_at, hash) select distinct created_at, hash from (${await selectOwnEntries(tx, known)}) as entry`)
  })
}

/** Records that a migration is applied. */
export async function recordMigration (db: Database, { when, hash }: Migration): Promise<void> {
  await db.execute(sql`insert into ${JOURNAL} (created_at, hash) values (${when}, ${hash})`)
}

/** Records that a migration was undone; in the shared journal too, where a former version would look for it. */
export async function recordRollback (db: Database, { when, hash }: Migration): Promise<void> {
  await db.execute(sql`delete from ${JOURNAL} where created_at = ${when}`)
  if (await canReadShared(db)) await db.execute(sql`delete from ${SHARED_JOURNAL} where created_at = ${when} and hash = ${hash}`)
}

async function hasJournal (db: Database): Promise<boolean> {
  const { rows } = await db.execute(sql`select where to_regclass('${JOURNAL}') is not null`)
  return rows.length > 0
}

/** It may belong to another application, whose role lets nobody read it. */
async function canReadShared (db: Database): Promise<boolean> {
  const { rows } = await db.execute(sql`select where has_table_privilege(to_regclass('${SHARED_JOURNAL}'), 'select')`)
  return rows.length > 0
}

/** Selects our entries of the shared journal: those with both the time and the hash of a known migration. */
async function selectOwnEntries (db: Database, known: Migration[]): Promise<SQL> {
  if (!await canReadShared(db)) return sql`select null::bigint as created_at, null as hash where false`
  const times = known.map(({ when }) => when)
  const hashes = known.map(({ hash }) => hash)
  return sql`select created_at, hash from ${SHARED_JOURNAL} join unnest(${sql.param(times)}::bigint[], ${sql.param(hashes)}::text[]) as known (created_at, hash) using (created_at, hash)`
}
