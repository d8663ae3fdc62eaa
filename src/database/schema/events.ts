import { sql } from 'drizzle-orm'
import { index, integer, pgTable, uuid, varchar } from 'drizzle-orm/pg-core'
import { eventStates } from '../../schemas/statuses.js'
import { timestamptz } from './columns.js'

const event = {
  id: uuid().primaryKey().defaultRandom(),
  type: varchar({ length: 64 }).notNull(),
  tenant_id: varchar({ length: 100 }).notNull(),
  from: varchar({ length: 15 }).notNull(),
  to: varchar({ length: 15 }).notNull(),
  reason: varchar({ length: 64 }),
  at: timestamptz().notNull().default(sql`now()`),
  attempts: integer().notNull().default(0)
}

/** The events that are still to be delivered. `refusals` counts the answers that a retry hardly changes, as 404. */
export const eventsOutbox = pgTable('events_outbox', {
  ...event,
  next_attempt_at: timestamptz().notNull().default(sql`now()`),
  last_status: integer(),
  refusals: integer().notNull().default(0)
}, (table) => [
  index('events_outbox_due_idx').on(table.next_attempt_at),
  index('events_outbox_tenant_idx').on(table.tenant_id, table.at, table.id),
  index('events_outbox_at_idx').on(table.at, table.id)
])

/** The events whose delivery is over, for 7 days. A former version would deliver them again from `events_outbox`. */
export const eventsEnded = pgTable('events_ended', {
  ...event,
  state: varchar({ length: 9, enum: eventStates }).notNull(),
  last_status: integer(),
  ended_at: timestamptz().notNull().default(sql`now()`)
}, (table) => [
  // The admin list pages within each state, of all tenants or of one.
  index('events_ended_state_idx').on(table.state, table.at, table.id),
  index('events_ended_tenant_idx').on(table.tenant_id, table.state, table.at, table.id),
  index('events_ended_ended_at_idx').on(table.ended_at)
])

/** The processed deliveries of Meta's webhook, by the hash of their bytes. */
export const webhookDeliveries = pgTable('webhook_deliveries', {
  digest: varchar({ length: 43 }).primaryKey(),
  received_at: timestamptz().notNull().default(sql`now()`)
}, (table) => [index('webhook_deliveries_received_at_idx').on(table.received_at)])
