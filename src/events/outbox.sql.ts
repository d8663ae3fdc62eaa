import { and, asc, eq, exists, getTableColumns, lte, notExists, sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { alias } from 'drizzle-orm/pg-core'
import { eventsOutbox as table } from '../database/schema.js'

const { placeholder } = sql

/** How many events are claimed at once, each of another tenant. */
const BATCH = 20
/** Whoever claimed an event has it alone for this time, which must be longer than a delivery and the noting of its outcome can take. */
const LEASE = sql.raw("interval '30 seconds'")
/** An event that fails when it is older than this is given up. */
const MAX_AGE = sql.raw("interval '7 days'")

/** Every statement on `events_outbox` that delivers, prepared once. All times are those of the database. */
export function eventsOutboxStatements (db: NodePgDatabase) {
  return {
    claim: claim(db),
    postpone: postpone(db),
    remove: db.delete(table).where(eq(table.id, placeholder('id'))).prepare('events_outbox_remove')
  }
}

/**
 * Takes events that are due, only the oldest of each tenant, and counts the attempt; `is_last` says that none follows.
 * What another one is about to take is passed over.
 */
function claim (db: NodePgDatabase) {
  const earlier = alias(table, 'earlier')
  const isBefore = sql`(${earlier.at}, ${earlier.id}) < (${table.at}, ${table.id})`
  const due = db.select({ id: table.id }).from(table)
    .where(and(
      lte(table.next_attempt_at, sql`now()`),
      notExists(db.select({ id: earlier.id }).from(earlier).where(and(eq(earlier.tenant_id, table.tenant_id), isBefore)))
    ))
    .orderBy(asc(table.next_attempt_at)).limit(BATCH).for('update', { skipLocked: true })
  const { next_attempt_at, ...columns } = getTableColumns(table)
  return db.update(table).set({ attempts: sql`${table.attempts} + 1`, next_attempt_at: sql`now() + ${LEASE}` })
    // An array is made once; a subquery with a limit might be run again for each row.
    .where(sql`${table.id} = any(array${due})`)
    .returning({ ...columns, is_last: sql<boolean>`${table.at} < now() - ${MAX_AGE}` }).prepare('events_outbox_claim')
}

/**
 * Has an event wait `delay` seconds, unless it was claimed again since the attempt with this number. The later ones of its tenant
 * wait as long, so that whoever looks for what is due need not pass over them.
 */
function postpone (db: NodePgDatabase) {
  const claimed = alias(table, 'claimed')
  const isOurs = and(eq(claimed.id, placeholder('id')), eq(claimed.attempts, placeholder('attempts')))
  return db.update(table).set({ next_attempt_at: sql`now() + make_interval(secs => ${placeholder('delay')})` })
    .where(and(eq(table.tenant_id, placeholder('tenant_id')), exists(db.select({ id: claimed.id }).from(claimed).where(isOurs))))
    .prepare('events_outbox_postpone')
}
