import { desc, eq, getTableColumns, lt, sql } from 'drizzle-orm'
import { serviceKeys as table } from '../database/schema/service-keys.js'
import { builder, prepare } from '../database/statement.js'

/** A row without its hash. */
const { hash, ...shown } = getTableColumns(table)

export type ShownKey = Omit<typeof table.$inferSelect, 'hash'>

/** One write a minute is enough for `last_used_at`, also when several processes use the key. */
const isUseDue = sql<boolean>`(${table.last_used_at} is null or ${table.last_used_at} < now() - interval '1 minute')`

export const find = prepare('service_key', builder.select({
  id: table.id,
  hash,
  scopes: table.scopes,
  tenants: table.tenants,
  expires_at: table.expires_at,
  is_use_due: isUseDue.as('is_use_due')
}).from(table).where(eq(table.id, sql.placeholder('id'))))

export const insertQuery = (key: typeof table.$inferInsert) => builder.insert(table).values(key).returning(shown)

/** Selects the newest keys; `before`: those that are older than this one. */
export const listQuery = (before: string | undefined, limit: number) => builder.select(shown).from(table)
  .where(before === undefined ? undefined : lt(table.id, before)).orderBy(desc(table.id)).limit(limit)

export const removeQuery = (id: string) => sql`delete from service_keys where id = ${id}`

export const useQuery = (id: string) =>
  sql`update service_keys set last_used_at = now() where id = ${id} and ${isUseDue}`
