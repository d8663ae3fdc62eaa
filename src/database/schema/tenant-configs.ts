import { sql } from 'drizzle-orm'
import { boolean, index, pgTable, serial, text, uniqueIndex, varchar } from 'drizzle-orm/pg-core'
import { accountStatuses, numberStatuses, tokenStatuses } from '../../schemas/statuses.js'
import { timestamptz, writable } from './columns.js'

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
  // The admin list pages in byte order, under any collation of the database. Only a former version filters within this
  // index; the next one has the rows of each pair of flags together.
  index('tenant_configs_list_idx').on(sql`${table.tenant_id} collate "C"`, table.is_active, table.onboarding_completed),
  index('tenant_configs_flags_idx').on(
    table.is_active, table.onboarding_completed, sql`${table.tenant_id} collate "C"`
  ),
  // Index-only scans of these two compare the rows with their counts; a former version counts so for its statistics.
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

/**
 * One row per stored access token; triggers on `tenant_configs` insert, reset and delete it. `reported` is the last
 * reported state. `is_deadline`: the next check is due for a warning or an expiry, and so comes before the others.
 * `tenant_is_active` and `tenant_is_onboarded` are copies for the admin list, which triggers keep. Their names differ
 * from those in `tenant_configs`: the former version joins both tables, and names columns without a table.
 */
export const tokenWatch = pgTable('token_watch', {
  tenant_id: varchar({ length: 100 }).primaryKey(),
  status: varchar({ length: 15, enum: tokenStatuses }).notNull().default('unverified'),
  reason: varchar({ length: 64 }),
  reported: varchar({ length: 80 }),
  checked_at: timestamptz(),
  next_check_at: timestamptz().notNull().default(sql`now()`),
  data_access_ends_at: timestamptz(),
  is_deadline: boolean().notNull().default(false),
  tenant_is_active: boolean(),
  tenant_is_onboarded: boolean()
}, (table) => [
  index('token_watch_due_idx').on(table.next_check_at),
  index('token_watch_deadline_idx').on(table.next_check_at).where(sql`${table.is_deadline}`),
  // For the list of a former version.
  index('token_watch_status_idx').on(table.status, sql`${table.tenant_id} collate "C"`),
  index('token_watch_flags_idx').on(
    table.status, table.tenant_is_active, table.tenant_is_onboarded, sql`${table.tenant_id} collate "C"`
  )
])
