import { index, jsonb, pgTable, primaryKey, uuid, varchar } from 'drizzle-orm/pg-core'
import { timestamptz } from './columns.js'

/** An answer that a repeated request gets. Its body is the text that was sent: a problem, or a masked configuration. */
export interface StoredAnswer { status: number, headers: Record<string, string>, body: string }

/**
 * One row per idempotency key of a tenant, by the hash of the key, for 24 hours. `fingerprint` identifies the request
 * that came with it first (see `vault/fingerprints.ts`). `lease_owner` executes it until `leased_until`; without an
 * `answer` the same request may then execute again.
 */
export const idempotencyKeys = pgTable('idempotency_keys', {
  tenant_id: varchar({ length: 100 }).notNull(),
  key_hash: varchar({ length: 43 }).notNull(),
  fingerprint: varchar({ length: 76 }).notNull(),
  lease_owner: uuid().notNull(),
  leased_until: timestamptz().notNull(),
  answer: jsonb().$type<StoredAnswer>(),
  expires_at: timestamptz().notNull()
}, (table) => [
  primaryKey({ columns: [table.tenant_id, table.key_hash] }),
  index('idempotency_keys_expires_at_idx').on(table.expires_at),
  index('idempotency_keys_tenant_idx').on(table.tenant_id, table.expires_at)
])
