import { bigint, pgTable, primaryKey, varchar } from 'drizzle-orm/pg-core'
import { timestamptz } from './columns.js'

/**
 * `source` is the table whose rows are counted; with `keys of` before it, its sealed values, by their key ids. `at`
 * begins a day, hour or minute; other counts have -infinity.
 */
const counted = {
  source: varchar({ length: 32 }).notNull(),
  name: varchar({ length: 32 }).notNull(),
  at: timestamptz().notNull().default('-infinity'),
  count: bigint({ mode: 'number' }).notNull()
}

/** The folded counts of the rows of a table. A count is the sum of its row here and of its `config_count_changes`. */
export const configCounts = pgTable('config_counts', counted, (table) => [
  primaryKey({ name: 'config_counts_pkey', columns: [table.source, table.name, table.at] })
])

/**
 * The changes of counts that are not folded yet. Triggers append them in the transaction of the write, and update no
 * row: writers do not wait for each other.
 */
export const configCountChanges = pgTable('config_count_changes', counted)
