import { sql } from 'drizzle-orm'

/** The work that waits; the ages are in seconds, 0 without any. */
export interface Backlog { due_tokens: number, watch_lag: number, waiting_events: number, outbox_age: number }

/** Counts end here: an exact one would read a million index entries after a long outage. */
const MAX_COUNTED = sql.raw('10000')

/** Reads the work that waits: each part takes few rows from an index, however much there is. */
export const backlogQuery = sql<Backlog>`
  select
    (select count(*)::int from (
      select from token_watch where next_check_at <= now() limit ${MAX_COUNTED}
    ) due) as due_tokens,
    greatest(0, extract(epoch from now() - (select min(next_check_at) from token_watch)))::float8 as watch_lag,
    (select count(*)::int from (select from events_outbox limit ${MAX_COUNTED}) waiting) as waiting_events,
    greatest(0, extract(epoch from now() - (select min(at) from events_outbox)))::float8 as outbox_age`
