import { sql } from 'drizzle-orm'
import type { eventsOutbox } from '../database/schema/events.js'
import { eventStates } from '../schemas/statuses.js'

type State = typeof eventStates[number]

/** An event and how its delivery stands; `next_attempt_at` is null unless it waits. */
export type EventState =
  Pick<typeof eventsOutbox.$inferSelect, 'id' | 'type' | 'tenant_id' | 'at' | 'attempts' | 'last_status'> &
  { state: State, next_attempt_at: string | null }

/** The list is in the order of these. */
export type EventKey = Pick<EventState, 'at' | 'id'>

export interface EventFilters {
  state?: State | undefined
  tenant_id?: string | undefined
}

/**
 * Selects the newest events of each state, and of these the newest: each part reads no more rows than `limit`, from an
 * index.
 *
 * @param filters.before the events after this one in the list
 */
export function listQuery (
  { state, tenant_id: tenantId, before, limit }: EventFilters & { before: EventKey | undefined, limit: number }
) {
  const newest = sql`
    ${tenantId === undefined ? sql`` : sql`and tenant_id = ${tenantId}`}
    ${before === undefined ? sql`` : sql`and (at, id) < (${before.at}::timestamptz, ${before.id}::uuid)`}
    order by at desc, id desc limit ${limit}`
  const parts = eventStates.filter((one) => state === undefined || one === state).map((one) => one === 'waiting'
    ? sql`(select id, type, tenant_id, at, 'waiting' as state, attempts, next_attempt_at, last_status
        from events_outbox where true ${newest})`
    : sql`(select id, type, tenant_id, at, state, attempts, null::timestamptz as next_attempt_at, last_status
        from events_ended where state = ${one} ${newest})`)
  return sql<EventState>`
    select * from (${sql.join(parts, sql` union all `)}) event order by at desc, id desc limit ${limit}`
}

/** Returns a row when the event waits or ended. */
export const existsQuery = (id: string) => sql`
  select from events_outbox where id = ${id} union all select from events_ended where id = ${id}`

/**
 * Makes an event due, with no attempts so far, and returns it; an ended one moves back to the outbox. The postponed
 * events of its tenant are due too: the earlier ones are delivered first, the later ones wait for it. Returns nothing
 * when another statement moves the event meanwhile.
 */
export const redeliverQuery = (id: string) => sql<EventState>`
  with due as (
    update events_outbox set next_attempt_at = now(),
      attempts = case id when ${id} then 0 else attempts end,
      refusals = case id when ${id} then 0 else refusals end
    where id = any(array(
      select id from events_outbox
      where tenant_id = (
        select tenant_id from events_outbox where id = ${id}
        union all select tenant_id from events_ended where id = ${id}
      )
      and (id = ${id} or next_attempt_at > now())
      order by at, id for update
    ))
    returning id, type, tenant_id, at, attempts, next_attempt_at, last_status
  ), removed as (
    delete from events_ended where id = ${id}
    returning id, type, tenant_id, "from", "to", reason, at, last_status
  ), returned as (
    insert into events_outbox (id, type, tenant_id, "from", "to", reason, at, last_status)
    select id, type, tenant_id, "from", "to", reason, at, last_status from removed
    returning id, type, tenant_id, at, attempts, next_attempt_at, last_status
  )
  select id, type, tenant_id, at, 'waiting' as state, attempts, next_attempt_at, last_status
  from (select * from due where id = ${id} union all select * from returned) event`
