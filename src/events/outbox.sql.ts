import { sql } from 'drizzle-orm'
import type { eventsOutbox } from '../database/schema.js'
import { onlyRow, type Queryable } from '../database/statement.js'

/** How many events are claimed at once, each of another tenant. */
const BATCH = 20
/** The lease of a claimed event: longer than a delivery and the recording of its result can take. */
const LEASE = sql.raw("interval '30 seconds'")
/** A failed event above this age is given up. */
const MAX_AGE = sql.raw("interval '7 days'")

/** A change of a tenant's state, which is reported once: `from` and `to` are states. `at` is ISO 8601. */
export type TenantEvent =
  Pick<typeof eventsOutbox.$inferSelect, 'id' | 'type' | 'tenant_id' | 'from' | 'to' | 'reason' | 'at'>

/** The values of a new event; without `at` it happens now. */
export type NewEvent = Omit<TenantEvent, 'id' | 'at'> & { at?: string | null }

/** Inserts an event into the outbox. The clock is that of the database, which all instances share. */
export async function insertEvent (
  tx: Queryable, { type, tenant_id, from, to, reason, at = null }: NewEvent
): Promise<TenantEvent> {
  return onlyRow(await tx.run(sql<TenantEvent>`
    insert into events_outbox (type, tenant_id, "from", "to", reason, at)
    values (${type}, ${tenant_id}, ${from}, ${to}, ${reason}, coalesce(${at}::timestamptz, clock_timestamp()))
    returning id, type, tenant_id, "from", "to", reason, at`))
}

/** An event that this process delivers; `is_last` says that no attempt follows. */
export type ClaimedEvent = Omit<typeof eventsOutbox.$inferSelect, 'next_attempt_at'> & { is_last: boolean }

/**
 * Claims due events, only the oldest of each tenant, and counts the attempt. Events that another process is claiming
 * are skipped. The array is built once; PostgreSQL might run a subquery with a limit once for each row.
 */
export const claimQuery = () => sql<ClaimedEvent>`
  update events_outbox set attempts = attempts + 1, next_attempt_at = now() + ${LEASE}
  where id = any(array(
    select id from events_outbox event
    where next_attempt_at <= now() and not exists (
      select from events_outbox earlier
      where earlier.tenant_id = event.tenant_id and (earlier.at, earlier.id) < (event.at, event.id)
    )
    order by next_attempt_at limit ${BATCH} for update skip locked
  ))
  returning id, type, tenant_id, "from", "to", reason, at, attempts, at < now() - ${MAX_AGE} as is_last`

/** Deletes an event. */
export const removeQuery = (id: string) => sql`delete from events_outbox where id = ${id}`

/**
 * Postpones an event by `delay` seconds, unless it was claimed again since this attempt. The later events of its tenant
 * wait as long: a claim would have to skip them.
 */
export const postponeQuery = ({ id, tenant_id, attempts }: ClaimedEvent, delay: number) => sql`
  update events_outbox set next_attempt_at = now() + make_interval(secs => ${delay})
  where tenant_id = ${tenant_id}
  and exists (select from events_outbox claimed where claimed.id = ${id} and claimed.attempts = ${attempts})`
