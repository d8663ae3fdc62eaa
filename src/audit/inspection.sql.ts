import { sql, type SQL } from 'drizzle-orm'
import type pg from 'pg'
import type { AuditRow } from '../database/schema/audit.js'
import { toQueryConfig } from '../database/statement.js'
import { recordColumns } from './audit.sql.js'
import { recordNames, type HeadRow } from './chain.js'

const BATCH = 1000

/** A record, or a checkpoint, which has a signature and of the others only its place and its HMAC. */
export type PartRow = AuditRow & { signature: string | null }

const ofTenant = (tenantId: string | undefined) => tenantId === undefined ? sql`` : sql`where tenant_id = ${tenantId}`

/** All chains or that of one tenant: each in its order, its checkpoint before the records that it has left. */
export const partsQuery = (tenantId: string | undefined) => sql<PartRow>`
  select tenant_id, seq::float8 as seq, ${recordColumns}, hmac, null as signature, seq as place
    from audit_log ${ofTenant(tenantId)}
  union all
  select tenant_id, seq::float8, ${sql.raw(recordNames.map(() => 'null').join(', '))}, hmac, signature, seq
    from audit_checkpoints ${ofTenant(tenantId)}
  order by tenant_id, place`

/** The heads of all chains, or of one. */
export const headsQuery = (tenantId: string | undefined) => sql<HeadRow>`
  select distinct on (tenant_id) tenant_id, seq::float8 as seq, hmac from (
    select tenant_id, seq, hmac from audit_log ${ofTenant(tenantId)}
    union all
    select tenant_id, seq, hmac from audit_checkpoints ${ofTenant(tenantId)}
  ) link order by tenant_id, link.seq desc`

/** Reads the rows of a query from one snapshot, and passes them on in batches. Writers go on meanwhile. */
export async function readInBatches<Row extends pg.QueryResultRow> (
  client: pg.Client, query: SQL<Row>, take: (rows: Row[]) => void
): Promise<void> {
  const { text, ...config } = toQueryConfig(query)
  await client.query('begin read only')
  await client.query({ ...config, text: `declare batches no scroll cursor for ${text}` })
  for (;;) {
    const { rows } = await client.query<Row>(toQueryConfig(sql.raw(`fetch ${BATCH} from batches`)))
    if (rows.length === 0) break
    take(rows)
  }
  await client.query('commit')
}
