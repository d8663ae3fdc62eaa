import { sql } from 'drizzle-orm'
import { bigint, index, integer, pgTable, primaryKey, text, uuid, varchar } from 'drizzle-orm/pg-core'
import { type AuditAction, auditOutcomes, auditRoles } from '../../schemas/audit-log/names.js'
import { timestamptz } from './columns.js'

/** The place of a record in the chain of its tenant. */
const place = () => ({
  tenant_id: varchar({ length: 100 }).notNull(),
  seq: bigint({ mode: 'number' }).notNull()
})
/** An HMAC-SHA256, in base64url. */
const hmac = () => varchar({ length: 43 }).notNull()

/**
 * The record of who did what. The records of a tenant are a chain: `seq` has no gaps, and `hmac` covers the record and
 * the `hmac` before it. `tenant_id` is empty for records that belong to no tenant. `count` is above 1 only where one
 * record stands for several requests. Triggers refuse every change of a row.
 */
export const auditLog = pgTable('audit_log', {
  ...place(),
  at: timestamptz().notNull(),
  actor: varchar({ length: 255 }),
  role: varchar({ length: 11, enum: auditRoles }).notNull(),
  action: varchar({ length: 32 }).$type<AuditAction>().notNull(),
  outcome: varchar({ length: 7, enum: auditOutcomes }).notNull(),
  code: varchar({ length: 64 }),
  fields: text().array().notNull(),
  count: integer().notNull(),
  address: varchar({ length: 45 }),
  request_id: varchar({ length: 128 }),
  hmac: hmac()
}, (table) => [
  primaryKey({ columns: [table.tenant_id, table.seq] }),
  // The admin list pages by time, also within an actor, an action, or what did not succeed.
  index('audit_log_at_idx').on(table.at, table.tenant_id, table.seq),
  index('audit_log_actor_idx').on(table.actor, table.at, table.tenant_id, table.seq)
    .where(sql`${table.actor} is not null`),
  index('audit_log_action_idx').on(table.action, table.at, table.tenant_id, table.seq),
  index('audit_log_outcome_idx').on(table.outcome, table.at, table.tenant_id, table.seq)
    .where(sql`${table.outcome} <> 'ok'`)
])

/** A record as it is stored. */
export type AuditRow = typeof auditLog.$inferSelect

/** The place at which the retention last cut a chain: the last record that it deleted, signed with the audit key. */
export const auditCheckpoints = pgTable('audit_checkpoints', {
  ...place(),
  hmac: hmac(),
  signature: hmac()
}, (table) => [primaryKey({ columns: [table.tenant_id] })])

/** The records that are still to be sent to AUDIT_STREAM, each with the `hmac` before it. */
export const auditOutbox = pgTable('audit_outbox', {
  id: bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
  ...place(),
  previous_hmac: varchar({ length: 43 }).notNull()
})

/** Work that one process at a time may do, with that process and the end of its lease. */
export const leases = pgTable('leases', {
  name: varchar({ length: 32 }).primaryKey(),
  holder: uuid().notNull(),
  held_until: timestamptz().notNull()
})
