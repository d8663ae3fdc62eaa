import { sql } from 'drizzle-orm'
import type { AuditRow } from '../database/schema/audit.js'
import { recordColumns } from './audit.sql.js'
import type { Checkpoint } from './chain.js'

/** The oldest records that are looked at in one statement, and those of a chain that one statement deletes. */
const BATCH = 1000

/** Selects the chains of the oldest records before a time (ISO 8601). */
export const chainsWithOldRecords = (before: string) => sql<Pick<AuditRow, 'tenant_id'>>`
  select distinct tenant_id from (
    select tenant_id from audit_log where at < ${before}::timestamptz order by at, tenant_id, seq limit ${BATCH}
  ) old`

/** A record of a chain, with its checkpoint; without one `cut_seq` is 0 and `cut_hmac` empty. */
export type RowAfterCut = AuditRow & { cut_seq: number, cut_hmac: string }

/** Selects the oldest records of a chain. One statement, so that no cut comes between them and the checkpoint. */
export const oldestRecords = (tenantId: string) => sql<RowAfterCut>`
  select tenant_id, log.seq::float8 as seq, ${recordColumns}, log.hmac,
    coalesce(checkpoint.seq, 0)::float8 as cut_seq, coalesce(checkpoint.hmac, '') as cut_hmac
  from audit_log log left join audit_checkpoints checkpoint using (tenant_id)
  where tenant_id = ${tenantId} order by log.seq limit ${BATCH}`

/** Cuts a chain at a checkpoint, by the function of another owner: nobody else may delete. */
export const cutChain = ({ tenant_id: tenantId, seq, hmac, signature }: Checkpoint) => sql<{ is_cut: boolean }>`
  select audit_cut(${tenantId}, ${seq}, ${hmac}, ${signature}) as is_cut`
