import { sql, type SQL } from 'drizzle-orm'
import type { Queryable } from '../database/statement.js'

/** Rows that one statement deletes, at most. */
const BATCH = 1000

/** A table, its key, and the condition of its expired rows. An index on `age` finds them. */
export interface Expiry { table: string, key: string, age: string, isExpired: SQL }

/** The tables whose rows expire. */
export const expiries: Expiry[] = [
  { table: 'oauth_states', key: 'state_hash', age: 'expires_at', isExpired: sql`expires_at < now()` },
  {
    table: 'webhook_deliveries',
    key: 'digest',
    age: 'received_at',
    isExpired: sql`received_at < now() - interval '30 days'`
  },
  // Its primary key has two columns.
  { table: 'idempotency_keys', key: 'ctid', age: 'expires_at', isExpired: sql`expires_at < now()` },
  { table: 'events_ended', key: 'id', age: 'ended_at', isExpired: sql`ended_at < now() - interval '7 days'` },
  // Its primary key has two columns.
  {
    table: 'tenant_config_versions',
    key: 'ctid',
    age: 'changed_at',
    isExpired: sql`changed_at < now() - (select retention_days from version_policy) * interval '1 day'`
  },
  {
    table: 'onboardings',
    key: 'id',
    age: 'created_at',
    isExpired: sql`created_at < now() - interval '1 year' and not (status = 'in_progress' and access_token is not null)
      and coalesce(held_until < now(), true)`
  }
]

/** Deletes a batch of expired rows, without those that another process deletes. Returns whether there may be more. */
export async function deleteExpired (db: Queryable, { table, key, age, isExpired }: Expiry): Promise<boolean> {
  const [name, id, order] = [sql.identifier(table), sql.identifier(key), sql.identifier(age)]
  return await db.count(sql`delete from ${name} where ${id} = any(array(
    select ${id} from ${name} where ${isExpired} order by ${order} limit ${BATCH} for update skip locked))`) === BATCH
}
