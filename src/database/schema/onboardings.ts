import { sql } from 'drizzle-orm'
import { boolean, index, jsonb, pgTable, text, uuid, varchar } from 'drizzle-orm/pg-core'
import { onboardingStatuses, type StepName, type stepStatuses } from '../../schemas/statuses.js'
import { timestamptz } from './columns.js'

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
