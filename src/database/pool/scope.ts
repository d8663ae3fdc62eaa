import type pg from 'pg'

/** Whom a transaction is for. PostgreSQL's policies and triggers read it. */
export interface Scope {
  /** The tenant whose rows the transaction reads or writes. */
  tenantId?: string | undefined
  /** Who changes a row: `sub` of the token. */
  actor?: string | null | undefined
}

// OFFSET: PostgreSQL calls the functions for the row, and sends none.
const BEGIN_SCOPE = `select set_config('statement_timeout', $1, true), set_config('app.tenant_id', $2, true),
  set_config('app.actor', $3, true) offset 1`

/**
 * Returns the first statement of a transaction: its settings last until the end of the transaction.
 *
 * @param timeoutMs the time limit of each statement
 */
export function beginScope ({ tenantId = '', actor }: Scope, timeoutMs: number): pg.QueryConfig {
  return { name: 'begin_scope', text: BEGIN_SCOPE, values: [timeoutMs, tenantId, actor ?? ''] }
}
