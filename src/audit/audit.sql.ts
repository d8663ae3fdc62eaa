import { sql } from 'drizzle-orm'
import type { AuditRow } from '../database/schema/audit.js'
import type { AuditAction, AuditOutcome } from '../schemas/audit-log/names.js'
import { recordNames } from './chain.js'

/** The columns of a record, without its place and its HMAC. */
export const recordColumns = sql.raw(recordNames.join(', '))

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
