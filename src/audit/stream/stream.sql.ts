import { sql } from 'drizzle-orm'
import type { AuditRow } from '../../database/schema/audit.js'
import { recordColumns } from '../audit.sql.js'

/** Records that are sent at once. */
const BATCH = 100
/** Longer than an attempt and the statements around it can take. */
const LEASE = sql.raw("interval '30 seconds'")

/** A record that waits to be sent; `at` is null when the retention has deleted it meanwhile. */
export type QueuedRecord = Omit<AuditRow, 'at'> & { id: string, at: string | null, previous_hmac: string }

/**
 * Takes or renews the lease of the stream, and selects the oldest records that wait. Returns none while another process
 * has the lease. An identity column orders them: within a chain it rises, since a record follows a committed one.
 */
export const nextQuery = (holder: string) => sql<QueuedRecord>`
  with lease as (
    insert into leases (name, holder, held_until)
    select 'audit_stream', ${holder}::uuid, now() + ${LEASE} where exists (select from audit_outbox)
    on conflict (name) do update set holder = excluded.holder, held_until = excluded.held_until
      where leases.holder = excluded.holder or leases.held_until < now()
    returning name
  ), queued as (
    select * from audit_outbox where exists (select from lease) order by id limit ${BATCH}
  )
  select queued.id, queued.previous_hmac, tenant_id, seq::float8 as seq, ${recordColumns}, log.hmac
  from queued left join audit_log log using (tenant_id, seq) order by queued.id`

/** Deletes records from the outbox: they are sent. */
export const sentQuery = (ids: string[]) => sql`delete from audit_outbox where id = any(${sql.param(ids)}::bigint[])`
