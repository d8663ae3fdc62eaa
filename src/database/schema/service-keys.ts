import { sql } from 'drizzle-orm'
import { pgTable, text, varchar } from 'drizzle-orm/pg-core'
import { timestamptz } from './columns.js'

/**
 * The keys of code in other languages. `hash` is that of the whole key, which is stored nowhere. `tenants` is null for
 * a key of all tenants; `created_by` is the `sub` of the admin.
 */
export const serviceKeys = pgTable('service_keys', {
  id: varchar({ length: 20 }).primaryKey(),
  name: varchar({ length: 100 }).notNull(),
  hash: varchar({ length: 43 }).notNull(),
  scopes: text().array().notNull(),
  tenants: text().array(),
  expires_at: timestamptz(),
  created_at: timestamptz().notNull().default(sql`now()`),
  created_by: varchar({ length: 255 }),
  last_used_at: timestamptz()
})
