import { sql } from 'drizzle-orm'
import type { eventsOutbox } from '../database/schema.js'

/** How many events are claimed at once, each of another tenant. */
const BATCH = 20
/** How long a claimed event belongs to its process: longer than a delivery and the recording of its outcome can take. */
const LEASE = sql.raw("interval '30 seconds'")
/** An event that fails when it is older than this is given up. */
const MAX_AGE = sql.raw("interval '7 days'")

/** An event that this process delivers; `is_last` says that no attempt follows. */
export type ClaimedEvent = Omit<typeof eventsOutbox.$inferSelect, 'next_attempt_at'> & { is_last: boolean }

/**
 * Claims events that are due, only the oldest of each tenant, and counts the attempt. An event that another process is about
 * to claim is passed over. The array is made once; a subquery with a limit might be run again for each row.
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
 * Postpones an event by `delay` seconds, unless it was claimed again since the attempt with this number. The later ones of
 * its tenant wait as long, so that a claim need not pass over them.
 */
export const postponeQuery = ({ id, tenant_id, attempts }: ClaimedEvent, delay: number) => sql`
  update events_outbox set next_attempt_at = now() + make_interval(secs => ${delay})
  where tenant_id = ${tenant_id}
  and exists (select from events_outbox claimed where claimed.id = ${id} and claimed.attempts = ${attempts})`
