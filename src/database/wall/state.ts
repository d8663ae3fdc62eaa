import { sql, type SQL } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'

export type Executor = Pick<NodePgDatabase, 'execute'>

/** The parts of the wall that a database has. */
export interface WallState {
  /** The user of the connection, and the owner of our tables. */
  login: string
  owner: string
  /** Whether no policy holds for the login. */
  bypasses: boolean
  /** The options of a membership that lets its member work as a role, with their SQL. PostgreSQL 15 has none. */
  membership: string
  terms: string
  schema: string
  tables: Set<string>
  auditOwner: string | undefined
  /** The sequence of each table that has one. */
  sequences: Map<string, string>
  roles: Set<string>
  /** The roles of others that have a privilege on a table, by its name. */
  grantees: Map<string, string[]>
  /** The roles that the login may work as. */
  usable: Set<string>
  /** `<role> <privilege> <table>`, `<role> USAGE <sequence>`, and `<role> USAGE` for the schema. */
  grants: Set<string>
  /** The tables whose rows are guarded, from their owner too. */
  guarded: Set<string>
  /** The roles of each policy, by `<policy> <table>`. */
  policies: Map<string, Set<string>>
}

const OURS = sql`(select relnamespace from pg_class where oid = to_regclass('tenant_configs'))`

/** Reads what a database has of the wall, for these roles; null without our tables. */
export async function readWall (db: Executor, roles: string[]): Promise<WallState | null> {
  const names = sql`${sql.param(roles)}::text[]`
  type Own = Pick<WallState, 'login' | 'bypasses' | 'owner' | 'membership' | 'terms' | 'schema'>
  const { rows } = await db.execute<Own>(sql`
    select session_user::text as login,
      (select rolsuper or rolbypassrls from pg_roles where rolname = session_user) as bypasses,
      pg_get_userbyid(relowner)::text as owner, nspname as schema,
      case when has_options then 'SET' else 'MEMBER' end as membership,
      case when has_options then ' with inherit false, set true' else '' end as terms
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace,
      lateral (select current_setting('server_version_num')::int >= 160000 as has_options) as server
    where pg_class.oid = to_regclass('tenant_configs')`)
  const [own] = rows
  if (own === undefined) return null
  return {
    ...own,
    tables: await texts(db, sql`
      select relname as text from pg_class where relnamespace = ${OURS} and relkind = 'r'`),
    auditOwner: [...await texts(db, sql`
      select pg_get_userbyid(relowner)::text as text from pg_class
      where relnamespace = ${OURS} and relname = 'audit_log'`)][0],
    sequences: await readSequences(db),
    roles: await texts(db, sql`select rolname as text from pg_roles where rolname = any(${names})`),
    usable: await texts(db, sql`
      select rolname as text from pg_roles
      where rolname = any(${names}) and pg_has_role(session_user, oid, ${own.membership})`),
    grants: await texts(db, sql`
      select concat_ws(' ', rolname, privilege, relname) as text
      from pg_roles, pg_class, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) as privilege
      where relnamespace = ${OURS} and relkind = 'r' and rolname = any(${names})
        and has_table_privilege(pg_roles.oid, pg_class.oid, privilege)
      union all
      select concat_ws(' ', rolname, 'USAGE', relname) from pg_roles, pg_class
      where relnamespace = ${OURS} and relkind = 'S' and rolname = any(${names})
        and has_sequence_privilege(pg_roles.oid, pg_class.oid, 'USAGE')
      union all
      select concat_ws(' ', rolname, 'USAGE') from pg_roles
      where rolname = any(${names}) and has_schema_privilege(oid, ${OURS}, 'USAGE')`),
    grantees: await readGrantees(db, names),
    guarded: await texts(db, sql`
      select relname as text from pg_class
      where relnamespace = ${OURS} and relrowsecurity and relforcerowsecurity`),
    policies: await readPolicies(db)
  }
}

async function readSequences (db: Executor): Promise<WallState['sequences']> {
  const { rows } = await db.execute<{ sequence: string, table: string }>(sql`
    select sequence.relname as sequence, owner.relname as table
    from pg_class sequence join pg_depend on objid = sequence.oid and deptype = 'a'
    join pg_class owner on owner.oid = refobjid
    where sequence.relkind = 'S' and sequence.relnamespace = ${OURS}`)
  return new Map(rows.map(({ table, sequence }) => [table, sequence]))
}

async function readGrantees (db: Executor, ours: SQL): Promise<WallState['grantees']> {
  const { rows } = await db.execute<{ table: string, roles: string[] }>(sql`
    select relname as table, array_agg(distinct rolname::text) as roles
    from pg_class, aclexplode(relacl) join pg_roles on pg_roles.oid = grantee
    where relnamespace = ${OURS} and rolname <> all(${ours}) group by relname`)
  return new Map(rows.map(({ table, roles }) => [table, roles]))
}

async function readPolicies (db: Executor): Promise<WallState['policies']> {
  const { rows } = await db.execute<{ name: string, roles: string[] }>(sql`
    select concat_ws(' ', polname, relname) as name,
      array(select rolname::text from pg_roles where oid = any(polroles)) as roles
    from pg_policy join pg_class on pg_class.oid = polrelid where relnamespace = ${OURS}`)
  return new Map(rows.map(({ name, roles }) => [name, new Set(roles)]))
}

async function texts (db: Executor, query: SQL): Promise<Set<string>> {
  const { rows } = await db.execute<{ text: string }>(query)
  return new Set(rows.map(({ text }) => text))
}
