import { sql } from 'drizzle-orm'
import { onlyRow, type Queryable } from '../database/statement.js'

/** Changes that one statement folds, at most: some 100 ms of work. */
const BATCH = 5000

/**
 * Folds a batch of `config_count_changes` into `config_counts`. Returns whether there may be more; false while another
 * process folds.
 */
export async function foldBatch (db: Queryable): Promise<boolean> {
  const rows = await db.run(sql<{ folded: number }>`select config_counts_fold(${BATCH}) as folded`)
  return onlyRow(rows).folded === BATCH
}
