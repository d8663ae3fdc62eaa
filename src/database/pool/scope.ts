import type pg from 'pg'
import { roleName, type WallRole } from '../wall/grants.js'

/** The role, tenant and user of a transaction. PostgreSQL's policies and triggers read it. */
export interface Scope {
  /** The role that it works as; `worker` by default. */
  role?: WallRole | undefined
  /** The tenant whose rows the transaction reads or writes. */
  tenantId?: string | undefined
  /** The user who changes a row: `sub` of the token. */
  actor?: string | null | undefined
}

// OFFSET: PostgreSQL calls the functions for the row, and sends none.
const BEGIN_SCOPE = `select set_config('statement_timeout', $1, true), set_config('app.tenant_id', $2, true),
  set_config('app.actor', $3, true), set_config('role', $4, true) offset 1`

/**
 * Returns the first statement of a transaction: its settings last until the end of the transaction.
 *
 * @param timeoutMs the time limit of each statement
 * @param rolePrefix DATABASE_ROLE_PREFIX; without a wall undefined: the transaction works as the login
 */
export function beginScope (
  { role = 'worker', tenantId = '', actor }: Scope, timeoutMs: number, rolePrefix?: string
): pg.QueryConfig {
  const worksAs = rolePrefix === undefined ? 'none' : roleName(rolePrefix, role)
  return { name: 'begin_scope', text: BEGIN_SCOPE, values: [timeoutMs, tenantId, actor ?? '', worksAs] }
}
