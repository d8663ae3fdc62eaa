import { sql } from 'drizzle-orm'
import {
  boolean, check, index, integer, pgTable, primaryKey, text, uuid, varchar, type PgColumnBuilderBase
} from 'drizzle-orm/pg-core'
import { timestamptz, writable } from './columns.js'
import type { TenantConfigRow } from './tenant-configs.js'

/** The columns of a configuration that a version keeps. The functions of the triggers list them too. */
const former = {
  ...writable,
  user_id: varchar({ length: 255 }),
  is_active: boolean().notNull(),
  onboarding_completed: boolean().notNull(),
  onboarded_at: timestamptz(),
  last_verified_at: timestamptz(),
  created_at: timestamptz().notNull()
} satisfies Record<Exclude<keyof TenantConfigRow, 'id' | 'tenant_id' | 'updated_at'>, PgColumnBuilderBase>

/**
 * The former states of the configurations: what a row was until `changed_at`, when `actor` changed the fields `changed`
 * (`deleted` alone for a deletion, with the `batch_id` of a delete-all). Triggers on `tenant_configs` insert them, with
 * the secrets as they were sealed.
 */
export const tenantConfigVersions = pgTable('tenant_config_versions', {
  tenant_id: varchar({ length: 100 }).notNull(),
  version: integer().notNull(),
  changed_at: timestamptz().notNull().default(sql`now()`),
  actor: varchar({ length: 255 }),
  changed: text().array().notNull(),
  batch_id: uuid(),
  ...former
}, (table) => [
  primaryKey({ columns: [table.tenant_id, table.version] }),
  index('tenant_config_versions_changed_at_idx').on(table.changed_at),
  index('tenant_config_versions_batch_idx').on(table.batch_id, table.tenant_id, table.version)
    .where(sql`${table.batch_id} is not null`)
])

/** A stored version: its secret columns are sealed. */
export type VersionRow = typeof tenantConfigVersions.$inferSelect

/** The number and the age of the versions that are kept: one row. Each start writes it; the triggers read it. */
export const versionPolicy = pgTable('version_policy', {
  is_present: boolean().primaryKey().default(true),
  retention_days: integer().notNull(),
  max_per_tenant: integer().notNull()
}, (table) => [check('version_policy_is_one_row', sql`${table.is_present}`)])
