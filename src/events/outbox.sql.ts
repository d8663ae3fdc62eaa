import { sql } from 'drizzle-orm'
import type { eventsOutbox } from '../database/schema/events.js'
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

/** An event that this process delivers, until `next_attempt_at`; `is_last` says that no attempt follows. */
export type ClaimedEvent = Omit<typeof eventsOutbox.$inferSelect, 'last_status'> & { is_last: boolean }

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
  returning id, type, tenant_id, "from", "to", reason, at, attempts, refusals, next_attempt_at,
    at < now() - ${MAX_AGE} as is_last`

/** Whether an event is still claimed by this attempt: no other claim, redelivery or operator changed it. */
const isClaimed = ({ id, next_attempt_at: until }: ClaimedEvent) =>
  sql`id = ${id} and next_attempt_at = ${until}::timestamptz`

/**
 * Moves an event from the outbox to the ended ones, and returns its id. One that is given up is moved only while it is
 * claimed. The statement does both, so an event is always in exactly one of the tables.
 */
export const endQuery = (
  event: ClaimedEvent, { state, status }: { state: 'delivered' | 'ended', status: number | null }
) => sql<{ id: string }>`
  with removed as (
    delete from events_outbox where ${state === 'delivered' ? sql`id = ${event.id}` : isClaimed(event)}
    returning id, type, tenant_id, "from", "to", reason, at, attempts
  )
  insert into events_ended (id, type, tenant_id, "from", "to", reason, at, attempts, state, last_status)
  select id, type, tenant_id, "from", "to", reason, at, attempts, ${state}, ${status}::integer from removed
  returning id`

interface Postponement {
  /** In seconds. */
  delay: number
  status: number | null
  refusals: number
}

/**
 * Postpones an event while it is claimed. The later events of its tenant wait as long: a claim would have to skip them.
 * All statements lock the events of a tenant in one order, against deadlocks.
 */
export const postponeQuery = (event: ClaimedEvent, { delay, status, refusals }: Postponement) => sql<{ id: string }>`
  update events_outbox set next_attempt_at = now() + make_interval(secs => ${delay}),
    last_status = case id when ${event.id} then ${status}::integer else last_status end,
    refusals = case id when ${event.id} then ${refusals}::integer else refusals end
  where id = any(array(
    select id from events_outbox where tenant_id = ${event.tenant_id}
    and exists (select from events_outbox where ${isClaimed(event)})
    order by at, id for update
  ))
  returning id`
