import { sql } from 'drizzle-orm'
import { boolean, customType, index, pgTable, serial, text, uniqueIndex, varchar } from 'drizzle-orm/pg-core'

/** A `timestamptz` that stays text on its way from the database to JSON: ISO 8601, UTC. */
const timestamptz = customType<{ data: string, driverData: string }>({
  dataType: () => 'timestamp with time zone',
  // In our sessions PostgreSQL writes 2026-11-23 05:55:00.123+00.
  fromDriver: (value) => `${value.slice(0, 10)}T${value.slice(11, -3)}Z`
})

/** One row a tenant. The secret columns hold ciphertext only. */
export const tenantConfigs = pgTable('tenant_configs', {
  id: serial().primaryKey(),
  tenant_id: varchar({ length: 100 }).notNull().unique('tenant_configs_tenant_id_key'),
  user_id: varchar({ length: 255 }),
  waba_id: varchar({ length: 255 }),
  phone_number_id: varchar({ length: 255 }),
  access_token: text(),
  fb_app_id: varchar({ length: 255 }),
  fb_app_secret: text(),
  callback_url: varchar({ length: 500 }),
  redirect_url: varchar({ length: 500 }),
  verify_token: text(),
  token_expires_at: timestamptz(),
  refresh_token: text(),
  is_active: boolean().notNull().default(true),
  onboarding_completed: boolean().notNull().default(false),
  onboarded_at: timestamptz(),
  last_verified_at: timestamptz(),
  created_at: timestamptz().notNull().default(sql`now()`),
  updated_at: timestamptz().notNull().default(sql`now()`)
}, (table) => [
  uniqueIndex('tenant_configs_phone_number_id_key').on(table.phone_number_id).where(sql`${table.phone_number_id} is not null`),
  index('tenant_configs_waba_id_idx').on(table.waba_id),
  // The admin list pages by bytes, whatever the collation of the database.
  index('tenant_configs_list_idx').on(sql`${table.tenant_id} collate "C"`),
  // Two index-only scans answer the statistics.
  index('tenant_configs_state_idx').on(table.is_active, table.onboarding_completed),
  index('tenant_configs_token_idx').on(table.token_expires_at).where(sql`${table.access_token} is not null`)
])

/** The columns that are sealed by the vault. */
export const secretColumns = ['access_token', 'fb_app_secret', 'verify_token', 'refresh_token'] as const

export type SecretColumn = typeof secretColumns[number]

/** A row as it is stored: its secret columns are sealed. */
export type TenantConfigRow = typeof tenantConfigs.$inferSelect

/** One row a key id that ever sealed something: a value sealed with that key, to prove at boot that the ring holds the same one. */
export const vaultKeys = pgTable('vault_keys', {
  key_id: varchar({ length: 32 }).primaryKey(),
  check_value: text().notNull(),
  created_at: timestamptz().notNull().default(sql`now()`)
})
