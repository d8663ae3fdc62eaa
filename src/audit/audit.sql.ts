import { sql } from 'drizzle-orm'
import type { AuditRow } from '../database/schema/audit.js'
import { prepare } from '../database/statement.js'
import type { AuditAction, AuditOutcome } from '../schemas/audit-log/names.js'
import { recordNames, type Head } from './chain.js'

const { placeholder } = sql

/** The columns of a record, without its place and its HMAC. */
export const recordColumns = sql.raw(recordNames.join(', '))
const columns = sql`tenant_id, seq, ${recordColumns}, hmac`

/** Selects the last record of a chain, or the checkpoint that replaced it; no row for a chain without records. */
export const headOfChain = prepare('audit_head', sql<Head>`
  select seq::float8 as seq, hmac from (
    (select seq, hmac from audit_log where tenant_id = ${placeholder('tenant_id')} order by seq desc limit 1)
    union all
    select seq, hmac from audit_checkpoints where tenant_id = ${placeholder('tenant_id')}
  ) last order by seq desc limit 1`)

/**
 * Inserts the rows of one chain, a JSON array in their order: all of them, or none and returns no row. The first one
 * decides: it conflicts when another writer was faster, and nobody can follow it before it is committed.
 */
export const append = prepare('audit_append', sql<{ seq: string }>`
  with entry as (
    select * from json_populate_recordset(null::audit_log, ${placeholder('rows')}::json)
  ), first as (
    insert into audit_log (${columns})
    select ${columns} from entry where seq = ${placeholder('previous_seq')}::bigint + 1
    on conflict do nothing returning seq
  ), others as (
    insert into audit_log (${columns})
    select ${columns} from entry where seq > ${placeholder('previous_seq')}::bigint + 1 and exists (select from first)
  ), queued as (
    insert into audit_outbox (tenant_id, seq, previous_hmac)
    select tenant_id, seq, lag(hmac, 1, ${placeholder('previous_hmac')}::varchar) over (order by seq)
    from entry where ${placeholder('is_streamed')}::boolean and exists (select from first) order by seq
  )
  select seq from first`)

/** A record as the lists show it. */
export type ListedRecord = Omit<AuditRow, 'hmac'>

/** The lists are in the order of these, the newest first; that of one tenant by `seq` alone. */
export type RecordKey = Pick<AuditRow, 'at' | 'tenant_id' | 'seq'>

export interface AuditFilters {
  tenant_id?: string | undefined
  actor?: string | undefined
  action?: AuditAction | undefined
  outcome?: AuditOutcome | undefined
  /** The earliest time, and the time before which; ISO 8601. */
  from?: string | undefined
  to?: string | undefined
}

/** Selects the newest records; `before`: those after this one in the list. */
export function listQuery (
  { tenant_id: tenantId, from, to, before, limit, ...equal }: AuditFilters &
    { before: RecordKey | undefined, limit: number }
) {
  const isOne = tenantId !== undefined
  const conditions = [
    ...isOne ? [sql`tenant_id = ${tenantId}`] : [],
    ...Object.entries(equal).map(([name, value]) => sql`${sql.identifier(name)} = ${value}`),
    ...from === undefined ? [] : [sql`at >= ${from}::timestamptz`],
    ...to === undefined ? [] : [sql`at < ${to}::timestamptz`],
    ...before === undefined
      ? []
      : [isOne
          ? sql`seq < ${before.seq}`
          : sql`(at, tenant_id, seq) < (${before.at}::timestamptz, ${before.tenant_id}, ${before.seq})`]
  ]
  return sql<ListedRecord>`
    select tenant_id, seq::float8 as seq, ${recordColumns}
    from audit_log where ${sql.join([sql`true`, ...conditions], sql` and `)}
    order by ${isOne ? sql`seq desc` : sql`at desc, tenant_id desc, seq desc`} limit ${limit}`
}
