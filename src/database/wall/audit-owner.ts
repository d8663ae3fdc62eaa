import pg from 'pg'
import { auditTables, roleName } from './grants.js'
import { membership } from './membership.js'
import type { MissingPart } from './wall.js'
import type { WallState } from './state.js'

const { escapeIdentifier: id } = pg

const CUT = 'audit_cut(varchar, bigint, varchar, varchar)'

/**
 * Finds what the audit log lacks: it belongs to a role that the service never works as. So the login may not change a
 * record, and only a function of that role cuts a chain.
 */
export function missingOfAudit (state: WallState, prefix: string): MissingPart[] {
  const owner = roleName(prefix, 'audit')
  if (!state.tables.has('audit_log') || state.auditOwner === owner) return []
  const [role, login, schema] = [owner, state.login, state.schema].map(id)
  const what = `the owner ${owner} of the audit log`
  return [
    membership(state, owner),
    `grant usage, create on schema ${schema} to ${role}`,
    `grant select, insert on audit_log to ${login}`,
    `grant select on audit_checkpoints to ${login}`,
    `grant execute on function ${CUT} to ${login}, ${id(roleName(prefix, 'worker'))}`,
    ...auditTables.map((table) => `alter table ${table} owner to ${role}`),
    // Otherwise the login could replace the function of the triggers.
    ...[CUT, 'audit_guard()'].map((name) => `alter function ${name} owner to ${role}`),
    `revoke create on schema ${schema} from ${role}`,
    `revoke ${role} from ${login}`
  ].map((sql) => ({ what, sql }))
}
