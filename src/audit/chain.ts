import { createHmac } from 'node:crypto'
import type { AuditRow, auditCheckpoints } from '../database/schema/audit.js'

/** The columns of a record besides its place and its HMAC, in the order in which that covers them. */
export const recordNames = [
  'at', 'actor', 'role', 'action', 'outcome', 'code', 'fields', 'count', 'address', 'request_id'
] as const satisfies Array<keyof AuditRow>

/** A record without its place in a chain. */
export type AuditEntry = Pick<AuditRow, 'tenant_id' | typeof recordNames[number]>

/** A record at its place in a chain, not yet signed. */
export type UnsignedRow = Omit<AuditRow, 'hmac'>

/** The last record of a chain, or the checkpoint that replaced it. */
export type HeadRow = Pick<AuditRow, 'tenant_id' | 'seq' | 'hmac'>

export type Head = Omit<HeadRow, 'tenant_id'>

export type Checkpoint = typeof auditCheckpoints.$inferSelect

/** The head of a chain without records. */
export const NO_RECORDS: Head = { seq: 0, hmac: '' }

/**
 * Computes the HMAC of a record. The JSON array keeps the values apart from each other, and begins with the name and
 * the version of this encoding.
 *
 * @param previous the HMAC of the record before; empty for the first one
 */
export function hmacOf (key: Buffer, row: UnsignedRow, previous: string): string {
  return sign(key, ['record.1', row.tenant_id, row.seq, ...recordNames.map((name) => row[name]), previous])
}

/** Signs the place at which a chain is cut: its last deleted record. */
export function signCheckpoint (key: Buffer, { tenant_id, seq, hmac }: Omit<Checkpoint, 'signature'>): string {
  return sign(key, ['checkpoint.1', tenant_id, seq, hmac])
}

/** Makes the records of entries that follow `head`, in their order. Returns the new head too. */
export function link (key: Buffer, head: Head, entries: AuditEntry[]): { rows: AuditRow[], head: Head } {
  let { seq, hmac } = head
  const rows = entries.map((entry) => {
    const row = { ...entry, seq: ++seq }
    hmac = hmacOf(key, row, hmac)
    return { ...row, hmac }
  })
  return { rows, head: { seq, hmac } }
}

/** Whether a record is the next one of a chain that ends with `head`. */
export function follows (key: Buffer, head: Head, row: AuditRow): boolean {
  return row.seq === head.seq + 1 && row.hmac === hmacOf(key, row, head.hmac)
}

function sign (key: Buffer, values: unknown[]): string {
  return createHmac('sha256', key).update(JSON.stringify(values)).digest('base64url')
}
