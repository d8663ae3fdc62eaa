import { sql, type SQL } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { Migration } from './files.js'

type Database = Pick<NodePgDatabase, 'execute'>

const JOURNAL = sql.raw('drizzle.__whatsapp_tenant_config_migrations')
/** The journal of all applications that migrate with drizzle. Versions before 0003 have their entries there. */
const SHARED_JOURNAL = sql.raw('drizzle.__drizzle_migrations')

/** Returns `when` of the applied migrations, oldest first; of the shared journal until ours exists. */
export async function appliedMigrations (db: Database, known: Migration[]): Promise<number[]> {
  const entries = await hasJournal(db) ? sql`select created_at from ${JOURNAL}` : await selectOwnEntries(db, known)
  const { rows } = await db.execute<{ created_at: string }>(sql`
    select created_at from (${entries}) as entry order by created_at`)
  return rows.map(({ created_at: when }) => Number(when))
}

/** Creates our journal unless it exists, with our entries of the shared one. They stay there for a former version. */
export async function createJournal (db: NodePgDatabase, known: Migration[]): Promise<void> {
  if (await hasJournal(db)) return
  await db.transaction(async (tx) => {
    const { rows } = await tx.execute(sql`select from pg_namespace where nspname = 'drizzle'`)
    // `if not exists` needs the privilege to create schemas, even when the schema exists.
    if (rows.length === 0) await tx.execute(sql`create schema drizzle`)
    await tx.execute(sql`create table ${JOURNAL} (created_at bigint primary key, hash text not null)`)
    await tx.execute(sql`insert into ${JOURNAL} (created_at, hash)
      select distinct created_at, hash from (${await selectOwnEntries(tx, known)}) as entry`)
  })
}

export async function recordMigration (db: Database, { when, hash }: Migration): Promise<void> {
  await db.execute(sql`insert into ${JOURNAL} (created_at, hash) values (${when}, ${hash})`)
}

/** Deletes the entry of a migration, in the shared journal too: a former version reads that one. */
export async function recordRollback (db: Database, { when, hash }: Migration): Promise<void> {
  await db.execute(sql`delete from ${JOURNAL} where created_at = ${when}`)
  if (!await canReadShared(db)) return
  await db.execute(sql`delete from ${SHARED_JOURNAL} where created_at = ${when} and hash = ${hash}`)
}

async function hasJournal (db: Database): Promise<boolean> {
  const { rows } = await db.execute(sql`select where to_regclass('${JOURNAL}') is not null`)
  return rows.length > 0
}

/** The shared journal may belong to the role of another application, without a grant for ours. */
async function canReadShared (db: Database): Promise<boolean> {
  const { rows } = await db.execute(sql`select where has_table_privilege(to_regclass('${SHARED_JOURNAL}'), 'select')`)
  return rows.length > 0
}

/** Returns a query of our entries in the shared journal: those with the time and the hash of a known migration. */
async function selectOwnEntries (db: Database, known: Migration[]): Promise<SQL> {
  if (!await canReadShared(db)) return sql`select null::bigint as created_at, null as hash where false`
  const times = known.map(({ when }) => when)
  const hashes = known.map(({ hash }) => hash)
  return sql`select created_at, hash from ${SHARED_JOURNAL}
    join unnest(${sql.param(times)}::bigint[], ${sql.param(hashes)}::text[]) as known (created_at, hash)
    using (created_at, hash)`
}
