import { sql } from 'drizzle-orm'
import {
  boolean, customType, index, integer, jsonb, pgTable, serial, text, uniqueIndex, uuid, varchar,
  type PgColumnBuilderBase
} from 'drizzle-orm/pg-core'
import type { WritableColumn } from '../schemas/columns.js'
import { isoFromPostgres } from '../schemas/timestamps.js'
import {
  accountStatuses, eventStates, numberStatuses, onboardingStatuses, tokenStatuses, type StepName, type stepStatuses
} from '../schemas/statuses.js'

/** A `timestamptz` that stays text between the database and JSON. */
const timestamptz = customType<{ data: string, driverData: string }>({
  dataType: () => 'timestamp with time zone',
  fromDriver: isoFromPostgres
})

const writable = {
  waba_id: varchar({ length: 255 }),
  phone_number_id: varchar({ length: 255 }),
  access_token: text(),
  fb_app_id: varchar({ length: 255 }),
  fb_app_secret: text(),
  callback_url: varchar({ length: 500 }),
  redirect_url: varchar({ length: 500 }),
  verify_token: text(),
  token_expires_at: timestamptz(),
  refresh_token: text()
} satisfies Record<WritableColumn, PgColumnBuilderBase>

/** One row per tenant. The secret columns hold ciphertext only. */
export const tenantConfigs = pgTable('tenant_configs', {
  id: serial().primaryKey(),
  tenant_id: varchar({ length: 100 }).notNull().unique('tenant_configs_tenant_id_key'),
  user_id: varchar({ length: 255 }),
  ...writable,
  is_active: boolean().notNull().default(true),
  onboarding_completed: boolean().notNull().default(false),
  onboarded_at: timestamptz(),
  last_verified_at: timestamptz(),
  created_at: timestamptz().notNull().default(sql`now()`),
  updated_at: timestamptz().notNull().default(sql`now()`)
}, (table) => [
  // For a version before 0003, which may serve during an upgrade; this one reads `verified_identities`.
  index('tenant_configs_phone_number_id_idx').on(table.phone_number_id),
  index('tenant_configs_waba_id_idx').on(table.waba_id),
  // The admin list pages in byte order, under any collation of the database, and filters within the index.
  index('tenant_configs_list_idx').on(sql`${table.tenant_id} collate "C"`, table.is_active, table.onboarding_completed),
  // Two index-only scans answer the statistics.
  index('tenant_configs_state_idx').on(table.is_active, table.onboarding_completed),
  index('tenant_configs_token_idx').on(table.token_expires_at).where(sql`${table.access_token} is not null`)
])

/** A stored row: its secret columns are sealed. */
export type TenantConfigRow = typeof tenantConfigs.$inferSelect

/**
 * The account and number that Meta confirmed to a tenant's own token; an account without a number has null for
 * `phone_number_id`. Triggers delete the row when the tenant changes these ids or is deleted. A new token keeps it.
 */
export const verifiedIdentities = pgTable('verified_identities', {
  tenant_id: varchar({ length: 100 }).primaryKey(),
  waba_id: varchar({ length: 255 }).notNull(),
  phone_number_id: varchar({ length: 255 }),
  verified_at: timestamptz().notNull().default(sql`now()`)
}, (table) => [
  uniqueIndex('verified_identities_phone_number_id_key').on(table.phone_number_id),
  index('verified_identities_waba_id_idx').on(table.waba_id)
])

/**
 * Meta's facts about the phone number of a tenant, told to the tenant's own token; a part that it left out is null.
 * `status` is Meta's, `number_status` is ours, and `reported` is the last one that an event reported. Triggers delete
 * the row when the tenant changes its ids or is deleted.
 */
export const phoneNumbers = pgTable('phone_numbers', {
  tenant_id: varchar({ length: 100 }).primaryKey(),
  phone_number_id: varchar({ length: 255 }).notNull(),
  display_phone_number: text(),
  verified_name: text(),
  is_on_biz_app: boolean(),
  platform_type: text(),
  quality_rating: text(),
  status: text(),
  number_status: varchar({ length: 11, enum: numberStatuses }).notNull().default('unknown'),
  reported: varchar({ length: 11, enum: numberStatuses }),
  told_at: timestamptz().notNull().default(sql`now()`)
}, (table) => [index('phone_numbers_status_idx').on(table.number_status)])

/**
 * The state of a tenant's account by Meta's account updates; `reason` and `initiated_by` are Meta's. `turned_off`: an
 * update turned the tenant off, and no person has turned it on or off since (a trigger sees to that). `acted_at` is the
 * time of the latest update that counted. `resume_at` is when the next live check of a resumption is due.
 */
export const accountStates = pgTable('account_states', {
  tenant_id: varchar({ length: 100 }).primaryKey(),
  status: varchar({ length: 9, enum: accountStatuses }).notNull().default('ok'),
  event: varchar({ length: 64 }),
  reason: varchar({ length: 64 }),
  initiated_by: varchar({ length: 64 }),
  turned_off: boolean().notNull().default(false),
  acted_at: timestamptz(),
  resume_at: timestamptz()
}, (table) => [index('account_states_resume_idx').on(table.resume_at).where(sql`${table.resume_at} is not null`)])

/** The phone numbers with a callback of their own at Meta, set for any tenant. */
export const phoneCallbacks = pgTable('phone_callbacks', {
  phone_number_id: varchar({ length: 255 }).primaryKey(),
  set_at: timestamptz().notNull().default(sql`now()`)
})

/** One row per key id that was ever in the ring; `check_value` proves at start that the ring holds the same key. */
export const vaultKeys = pgTable('vault_keys', {
  key_id: varchar({ length: 32 }).primaryKey(),
  check_value: text().notNull(),
  created_at: timestamptz().notNull().default(sql`now()`)
})

/** The Meta logins without a callback yet; the table holds only the hash of a `state`. */
export const oauthStates = pgTable('oauth_states', {
  state_hash: varchar({ length: 43 }).primaryKey(),
  tenant_id: varchar({ length: 100 }).notNull(),
  user_id: varchar({ length: 255 }),
  expires_at: timestamptz().notNull()
}, (table) => [
  index('oauth_states_expires_at_idx').on(table.expires_at),
  index('oauth_states_tenant_idx').on(table.tenant_id, table.expires_at)
])

/** The failure of a step: our error code, Meta's codes, and the advice. */
export interface StepError {
  code: string
  meta_code: number | null
  meta_subcode: number | null
  fbtrace_id: string | null
  advice: string
}

/** The record of a step; `evidence` holds ids and enums, never a secret. */
export interface Step {
  name: StepName
  status: typeof stepStatuses[number]
  attempts: number
  at: string | null
  evidence: Record<string, unknown> | null
  error: StepError | null
}

/** The account and number that a tenant had before an onboarding, and the token for them, sealed. */
export interface FormerIdentity { waba_id: string, phone_number_id: string | null, access_token: string }

/**
 * One row per code of a Meta login, by the hash of the code. Until it ends it holds the granted token, sealed as
 * `tenant_configs.access_token` is. `holder` is the lease owner, and `held_until` the end of its lease.
 * `chosen_waba_id` and `chosen_phone_number_id` are what a resumption named. `former` is to be unsubscribed.
 * `failing_since` is the first passing fault of those since the last progress, and `retry_at` the next retry.
 */
export const onboardings = pgTable('onboardings', {
  id: uuid().primaryKey().defaultRandom(),
  tenant_id: varchar({ length: 100 }).notNull(),
  user_id: varchar({ length: 255 }),
  code_hash: varchar({ length: 43 }).notNull().unique('onboardings_code_hash_key'),
  status: varchar({ length: 11, enum: onboardingStatuses }).notNull().default('in_progress'),
  steps: jsonb().$type<Step[]>().notNull(),
  waba_id: varchar({ length: 255 }),
  phone_number_id: varchar({ length: 255 }),
  pin_given: boolean().notNull().default(false),
  access_token: text(),
  token_expires_at: timestamptz(),
  holder: uuid(),
  held_until: timestamptz(),
  chosen_waba_id: varchar({ length: 255 }),
  chosen_phone_number_id: varchar({ length: 255 }),
  former: jsonb().$type<FormerIdentity>(),
  failing_since: timestamptz(),
  retry_at: timestamptz(),
  created_at: timestamptz().notNull().default(sql`now()`),
  updated_at: timestamptz().notNull().default(sql`now()`)
}, (table) => [
  index('onboardings_tenant_idx').on(table.tenant_id, table.created_at),
  index('onboardings_created_at_idx').on(table.created_at),
  // A record that failed for a passing reason, or whose executor died.
  index('onboardings_due_idx').on(sql`coalesce(${table.retry_at}, ${table.held_until})`)
    .where(sql`${table.status} = 'in_progress'`)
])

/** A stored onboarding: its token is sealed. */
export type OnboardingRow = typeof onboardings.$inferSelect

/**
 * One row per stored access token; triggers on `tenant_configs` insert, reset and delete it. `reported` is the last
 * reported state. `is_deadline`: the next check is due for a warning or an expiry, and so comes before the others.
 */
export const tokenWatch = pgTable('token_watch', {
  tenant_id: varchar({ length: 100 }).primaryKey(),
  status: varchar({ length: 15, enum: tokenStatuses }).notNull().default('unverified'),
  reason: varchar({ length: 64 }),
  reported: varchar({ length: 80 }),
  checked_at: timestamptz(),
  next_check_at: timestamptz().notNull().default(sql`now()`),
  data_access_ends_at: timestamptz(),
  is_deadline: boolean().notNull().default(false)
}, (table) => [
  index('token_watch_due_idx').on(table.next_check_at),
  index('token_watch_deadline_idx').on(table.next_check_at).where(sql`${table.is_deadline}`),
  index('token_watch_status_idx').on(table.status, sql`${table.tenant_id} collate "C"`)
])

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
