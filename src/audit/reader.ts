import type { Database } from '../database/database.js'
import type { Queryable } from '../database/statement.js'
import { InvalidCursor } from '../errors.js'
import { isIsoTime, isoFromMs } from '../schemas/timestamps.js'
import { isTenantId } from '../tenant-configs/tenant-id.js'
import { listQuery, type AuditFilters, type ListedRecord, type RecordKey } from './audit.sql.js'

export interface AuditQuery extends AuditFilters {
  limit: number
  /** `next` of the previous page. */
  cursor?: string | undefined
}

/** A record as JSON has it: a record of no tenant has null. */
export type ShownRecord = Omit<ListedRecord, 'tenant_id'> & { tenant_id: string | null }

/** `next`: the cursor of the next page; null on the last one. */
export interface RecordPage { records: ShownRecord[], next: string | null }

/** Creates the lists of the audit log. Both methods throw `INVALID_CURSOR` and `DATABASE_UNAVAILABLE`. */
export function createReader ({ database }: { database: Pick<Database, 'as' | 'ofTenant'> }) {
  return {
    /** Returns a page of records, the newest first. */
    list: async (query: AuditQuery): Promise<RecordPage> => await list(database.as({ role: 'admin' }), query),

    /** Returns a page of a tenant's records, the newest first. It shows actor and address of its own users alone. */
    async listOwn (tenantId: string, query: Pick<AuditQuery, 'limit' | 'cursor'>): Promise<RecordPage> {
      const { records, next } = await list(database.ofTenant(tenantId), { ...query, tenant_id: tenantId })
      const shown = records.map((record) =>
        record.role === 'tenant' ? record : { ...record, actor: null, address: null })
      return { records: shown, next }
    }
  }

  async function list (
    db: Pick<Queryable, 'run'>, { limit, cursor, from, to, ...filters }: AuditQuery
  ): Promise<RecordPage> {
    const rows = await db.run(listQuery({
      ...filters,
      from: inUtc(from),
      to: inUtc(to),
      before: cursor === undefined ? undefined : parseCursor(cursor),
      limit: limit + 1
    }))
    // The last record of the page, when another one follows.
    const [last] = rows.slice(limit - 1, -1)
    const records = rows.slice(0, limit).map((row) => ({ ...row, tenant_id: row.tenant_id || null }))
    return { records, next: last === undefined ? null : formatCursor(last) }
  }
}

/** PostgreSQL rejects offsets of 16 hours or more. */
const inUtc = (time: string | undefined) => time === undefined ? undefined : isoFromMs(Date.parse(time))

// A cursor is the key of the last record of a page. The encoding marks it as opaque to clients.
const formatCursor = ({ seq, at, tenant_id: tenantId }: RecordKey) =>
  Buffer.from(`${seq} ${at} ${tenantId}`).toString('base64url')

function parseCursor (cursor: string): RecordKey {
  const [, seq, at = '', tenantId = ''] = /^([1-9]\d{0,14}) (\S+) (.*)$/s.exec(decode(cursor)) ?? []
  const key = { seq: Number(seq), at, tenant_id: tenantId }
  const isUsable = isIsoTime(at) && (tenantId === '' || isTenantId(tenantId)) && formatCursor(key) === cursor
  if (!isUsable) throw new InvalidCursor()
  return key
}

const decode = (cursor: string) => Buffer.from(cursor, 'base64url').toString()
