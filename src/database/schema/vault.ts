import { sql } from 'drizzle-orm'
import { bigint, pgTable, text, varchar } from 'drizzle-orm/pg-core'
import { serviceSecretNames } from '../../schemas/columns.js'
import { sealFormats } from '../../schemas/statuses.js'
import { timestamptz } from './columns.js'

/**
 * One row per key id that was ever in the ring; `check_value` proves at start that the ring holds the same key.
 * `format` is what the key seals in: a version that knows only `v1` may serve with a key that it inserted itself.
 * `seals` counts what it sealed.
 */
export const vaultKeys = pgTable('vault_keys', {
  key_id: varchar({ length: 32 }).primaryKey(),
  check_value: text().notNull(),
  created_at: timestamptz().notNull().default(sql`now()`),
  format: varchar({ length: 2, enum: sealFormats }).notNull().default('v1'),
  seals: bigint({ mode: 'number' }).notNull().default(0)
})

/** The secrets of the service itself, sealed; see `SERVICE` in the vault. */
export const serviceSecrets = pgTable('service_secrets', {
  name: varchar({ length: 32, enum: serviceSecretNames }).primaryKey(),
  sealed: text().notNull(),
  created_at: timestamptz().notNull().default(sql`now()`)
})
