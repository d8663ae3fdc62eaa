import { sql, type Placeholder, type SQL } from 'drizzle-orm'
import type { AuditRow } from '../../database/schema/audit.js'
import { prepare } from '../../database/statement.js'
import { recordNames, type HeadRow } from '../chain.js'

const { placeholder } = sql

const columnNames = ['tenant_id', 'seq', ...recordNames, 'hmac']
const columns = sql.raw(columnNames.join(', '))
const entryColumns = sql.raw(columnNames.map((name) => `entry.${name}`).join(', '))

/** Selects the heads of chains; no row for a chain without records. */
export const headsOfChains = prepare('audit_heads', sql<HeadRow>`
  select chain.tenant_id, last.seq::float8 as seq, last.hmac
  from unnest(${placeholder('tenant_ids')}::varchar[]) as chain (tenant_id) cross join lateral (
    (select seq, hmac from audit_log where tenant_id = chain.tenant_id order by seq desc limit 1)
    union all
    select seq, hmac from audit_checkpoints where tenant_id = chain.tenant_id
    order by seq desc limit 1
  ) as last`)

/** The advisory lock of a chain. Who appends to the chain holds it until the end of the transaction. */
const lockOf = (tenantId: SQL | Placeholder) =>
  sql`hashtextextended('whatsapp-tenant-config audit ' || ${tenantId}::varchar, 0)`

/** Locks a chain; waits for the transaction that has locked it. */
export const lockChain = prepare('audit_lock', sql`select pg_advisory_xact_lock(${lockOf(placeholder('tenant_id'))})`)

/**
 * Inserts the rows of several chains: all rows of a chain and returns its tenant, or none. It waits for no other
 * transaction: a chain that one has locked is left out, and the lock keeps others from the same keys. The first row of
 * a chain decides: it conflicts when its head is not the last record any more. Nobody can follow it before the commit.
 *
 * `rows` and `heads` are JSON arrays, the rows of a chain in their order, and the head before them.
 */
export const append = prepare('audit_append', sql<Pick<AuditRow, 'tenant_id'>>`
  with entry as materialized (
    select * from json_populate_recordset(null::audit_log, ${placeholder('rows')}::json)
  ), head as materialized (
    select tenant_id, seq, hmac from json_populate_recordset(null::audit_checkpoints, ${placeholder('heads')}::json)
    where pg_try_advisory_xact_lock(${lockOf(sql.raw('tenant_id'))})
  ), first as (
    insert into audit_log (${columns})
    select ${entryColumns} from entry join head on entry.tenant_id = head.tenant_id and entry.seq = head.seq + 1
    on conflict do nothing returning tenant_id, seq
  ), others as (
    insert into audit_log (${columns})
    select ${entryColumns} from entry join first on entry.tenant_id = first.tenant_id and entry.seq > first.seq
  ), queued as (
    insert into audit_outbox (tenant_id, seq, previous_hmac)
    select tenant_id, entry.seq, lag(entry.hmac, 1, head.hmac) over (partition by tenant_id order by entry.seq)
    from entry join first using (tenant_id) join head using (tenant_id)
    where ${placeholder('is_streamed')}::boolean order by tenant_id, entry.seq
  )
  select tenant_id from first`)
