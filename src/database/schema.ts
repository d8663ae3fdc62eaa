import { sql } from 'drizzle-orm'
import {
  boolean, customType, index, integer, jsonb, pgTable, serial, text, uniqueIndex, uuid, varchar,
  type PgColumnBuilderBase
} from 'drizzle-orm/pg-core'
import type { WritableColumn } from '../schemas/columns.js'
import { isoFromPostgres } from '../schemas/timestamps.js'
import { onboardingStatuses, tokenStatuses, type StepName, type stepStatuses } from '../schemas/statuses.js'

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

/**
 * One row per code of a Meta login, by the hash of the code. Until it ends it holds the granted token, sealed as
 * `tenant_configs.access_token` is. `holder` is the lease owner, and `held_until` the end of its lease.
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
  created_at: timestamptz().notNull().default(sql`now()`),
  updated_at: timestamptz().notNull().default(sql`now()`)
}, (table) => [
  index('onboardings_tenant_idx').on(table.tenant_id, table.created_at),
  index('onboardings_created_at_idx').on(table.created_at)
])

/** A stored onboarding: its token is sealed. */
export type OnboardingRow = typeof onboardings.$inferSelect

/**
 * One row per stored access token; triggers on `tenant_configs` insert, reset and delete it. `reported` is the last
 * reported state.
 */
export const tokenWatch = pgTable('token_watch', {
  tenant_id: varchar({ length: 100 }).primaryKey(),
  status: varchar({ length: 15, enum: tokenStatuses }).notNull().default('unverified'),
  reason: varchar({ length: 64 }),
  reported: varchar({ length: 80 }),
  checked_at: timestamptz(),
  next_check_at: timestamptz().notNull().default(sql`now()`)
}, (table) => [
  index('token_watch_due_idx').on(table.next_check_at),
  index('token_watch_status_idx').on(table.status, sql`${table.tenant_id} collate "C"`)
])

/** The events without a successful delivery yet. */
export const eventsOutbox = pgTable('events_outbox', {
  id: uuid().primaryKey().defaultRandom(),
  type: varchar({ length: 64 }).notNull(),
  tenant_id: varchar({ length: 100 }).notNull(),
  from: varchar({ length: 15, enum: tokenStatuses }).notNull(),
  to: varchar({ length: 15, enum: tokenStatuses }).notNull(),
  reason: varchar({ length: 64 }),
  at: timestamptz().notNull().default(sql`now()`),
  attempts: integer().notNull().default(0),
  next_attempt_at: timestamptz().notNull().default(sql`now()`)
}, (table) => [
  index('events_outbox_due_idx').on(table.next_attempt_at),
  index('events_outbox_tenant_idx').on(table.tenant_id, table.at, table.id)
])

/** The processed deliveries of Meta's webhook, by the hash of their bytes. */
export const webhookDeliveries = pgTable('webhook_deliveries', {
  digest: varchar({ length: 43 }).primaryKey(),
  received_at: timestamptz().notNull().default(sql`now()`)
}, (table) => [index('webhook_deliveries_received_at_idx').on(table.received_at)])
