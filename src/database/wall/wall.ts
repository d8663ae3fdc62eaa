import { sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { hasSqlState } from '../database-errors.js'
import { missingOfAudit } from './audit-owner.js'
import { auditTables, roleName, tableWalls, wallRoles, type Privilege, type TableWall } from './grants.js'
import { membership } from './membership.js'
import { readWall, type Executor, type WallState } from './state.js'

const { escapeIdentifier: id } = pg

/** A part that the wall lacks, and the SQL that builds it. */
export interface MissingPart {
  what: string
  sql: string
  /** Whether the login sees no rows without it. */
  blinds?: boolean
}

/** A part of the wall that one transaction completes: the roles, or a table. */
type Section = (state: WallState, prefix: string) => MissingPart[]

const sections: Section[] = [
  (state, prefix) => [
    ...missingRole(state, roleName(prefix, 'audit')),
    ...wallRoles.flatMap((role) => missingOfRole(state, roleName(prefix, role)))
  ],
  ...Object.entries(tableWalls)
    .map(([table, wall]): Section => (state, prefix) => missingOfTable(state, table, wall, prefix)),
  missingOfAudit
]

/** The rows of the tenant that a transaction is for; none without one. */
const OWN_ROWS = "tenant_id = current_setting('app.tenant_id', true)"
const INSUFFICIENT_PRIVILEGE = '42501'

/**
 * Finds what the wall of a database lacks for the login of the connection, in the order in which it can be built. The
 * wall is complete without any.
 *
 * @param prefix DATABASE_ROLE_PREFIX
 */
export async function findMissingParts (db: Executor, prefix: string): Promise<MissingPart[]> {
  return await findMissing(db, sections, prefix)
}

/**
 * Builds what the wall lacks: first the roles, then table by table, so that none is locked for long.
 *
 * @param repeat repeats an attempt that failed for a moment, such as beside another process that does the same
 * @returns the parts that the login may not build
 * @throws other errors of PostgreSQL
 */
export async function buildWall (
  db: NodePgDatabase, prefix: string, repeat: (attempt: () => Promise<void>) => Promise<void>
): Promise<MissingPart[]> {
  const missing = await findMissingParts(db, prefix)
  if (missing.length === 0) return missing
  try {
    for (const section of sections) {
      await repeat(async () => await db.transaction(async (tx) => {
        await tx.execute(sql`set local lock_timeout = '500ms'`)
        for (const part of await findMissing(tx, [section], prefix)) await tx.execute(sql.raw(part.sql))
      }))
    }
  } catch (err) {
    if (!hasSqlState(err, INSUFFICIENT_PRIVILEGE)) throw err
  }
  return await findMissingParts(db, prefix)
}

/** Describes the missing parts for a person, with the SQL for somebody who may build them. */
export function describeMissing (missing: MissingPart[]): string {
  const [first, ...others] = missing.map(({ what }) => what)
  const more = others.length === 0 ? '' : ` and ${others.length} more parts`
  const lines = missing.map(({ sql }) => `\n  ${sql};`).join('')
  return `The wall of the database lacks ${String(first)}${more}. ` +
    `Let a superuser, or the owner of the tables who may create roles, run:${lines}`
}

async function findMissing (db: Executor, sections: Section[], prefix: string): Promise<MissingPart[]> {
  const state = await readWall(db, [...wallRoles, 'audit' as const].map((role) => roleName(prefix, role)))
  return state === null ? [] : sections.flatMap((section) => section(state, prefix))
}

const missingRole = ({ roles }: WallState, role: string): MissingPart[] => roles.has(role)
  ? []
  : [{ what: `the role ${role}`, sql: `create role ${id(role)} nologin` }]

function missingOfRole (state: WallState, role: string): MissingPart[] {
  const { usable, grants, login, schema } = state
  return [
    ...missingRole(state, role),
    ...usable.has(role) ? [] : [{ what: `the membership of ${login} in ${role}`, sql: membership(state, role) }],
    ...grants.has(`${role} USAGE`)
      ? []
      : [{ what: `the use of the schema by ${role}`, sql: `grant usage on schema ${id(schema)} to ${id(role)}` }]
  ]
}

function missingOfTable (
  state: WallState, table: string, { isOfTenant, grants }: TableWall, prefix: string
): MissingPart[] {
  if (!state.tables.has(table)) return []
  const missing = wallRoles.flatMap((role) => missingGrants(state, table, grants[role], roleName(prefix, role)))
  if (!isOfTenant) return missing
  const unlimited = wallRoles.filter((role) => role !== 'tenant')
  const others = [...unlimited, ...auditTables.includes(table) ? ['audit' as const] : []]
    .map((role) => roleName(prefix, role))
  return [
    ...missing,
    ...missingPolicy(state, table, 'wall_tenant', [roleName(prefix, 'tenant')], OWN_ROWS),
    // The policy admits those who could read the table before, too: a former version, which knows no roles, may serve.
    ...missingPolicy(state, table, 'wall_others', [
      ...others, ...new Set([state.login, state.owner, ...state.grantees.get(table) ?? []])
    ], 'true'),
    ...state.guarded.has(table)
      ? []
      : [{
          what: `the guard of ${table}`,
          sql: `alter table ${id(table)} enable row level security, force row level security`
        }]
  ]
}

function missingGrants (
  { grants, sequences }: WallState, table: string, privileges: Privilege[], role: string
): MissingPart[] {
  const sequence = sequences.get(table)
  const lacking = privileges.filter((privilege) => !grants.has(`${role} ${privilege} ${table}`)).join(', ')
  const parts = lacking === ''
    ? []
    : [{ what: `${lacking} on ${table} for ${role}`, sql: `grant ${lacking} on ${id(table)} to ${id(role)}` }]
  if (sequence === undefined || !privileges.includes('INSERT') || grants.has(`${role} USAGE ${sequence}`)) return parts
  return [...parts, {
    what: `USAGE on ${sequence} for ${role}`, sql: `grant usage on sequence ${id(sequence)} to ${id(role)}`
  }]
}

function missingPolicy (
  { policies, guarded, login, bypasses }: WallState, table: string, policy: string, roles: string[], rows: string
): MissingPart[] {
  const known = policies.get(`${policy} ${table}`)
  if (known !== undefined && roles.every((role) => known.has(role))) return []
  // Another login may have been added before.
  const all = [...new Set([...known ?? [], ...roles])].map(id).join(', ')
  return [{
    what: `the policy ${policy} of ${table} for ${roles.filter((role) => known?.has(role) !== true).join(', ')}`,
    blinds: !bypasses && guarded.has(table) && roles.includes(login) && known?.has(login) !== true,
    sql: known === undefined
      ? `create policy ${policy} on ${id(table)} to ${all} using (${rows})`
      : `alter policy ${policy} on ${id(table)} to ${all}`
  }]
}
