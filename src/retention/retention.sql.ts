import { sql, type SQL } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'

type Db = Pick<NodePgDatabase, 'execute'>

/** How many rows one statement deletes at most. Another process that deletes at the same time takes others. */
const BATCH = 1000
/** How many open logins, and how many onboardings, a tenant has at most. */
const MAX_STATES = 20
const MAX_ONBOARDINGS = 20
/** How many rows of a tenant one request looks at to delete those beyond the limit. */
const MAX_SURPLUS = 100

const isWaitingWithToken = sql`(status = 'in_progress' and access_token is not null)`

/** A table, its key, and which rows nobody needs any more; an index leads to these by age. */
interface Expiry { table: string, key: string, age: string, isExpired: SQL }

/** What expires by itself. */
export const expiries: Expiry[] = [
  { table: 'oauth_states', key: 'state_hash', age: 'expires_at', isExpired: sql`expires_at < now()` },
  { table: 'webhook_deliveries', key: 'digest', age: 'received_at', isExpired: sql`received_at < now() - interval '30 days'` },
  {
    table: 'onboardings',
    key: 'id',
    age: 'created_at',
    isExpired: sql`created_at < now() - interval '1 year' and not ${isWaitingWithToken} and coalesce(held_until < now(), true)`
  }
]

/** Deletes a batch of expired rows. Returns whether there may be more. */
export async function deleteExpired (db: Db, { table, key, age, isExpired }: Expiry): Promise<boolean> {
  const [name, id, order] = [sql.identifier(table), sql.identifier(key), sql.identifier(age)]
  const { rowCount } = await db.execute(sql`delete from ${name} where ${id} = any(array(
    select ${id} from ${name} where ${isExpired} order by ${order} limit ${BATCH} for update skip locked))`)
  return rowCount === BATCH
}

/** The keys of the tenant's rows beyond the newest ones. An inner query finds them: to lock a row in it would change what `offset` counts. */
const surplus = (table: string, key: string, age: string, tenantId: string, newest: number) => sql`select ${sql.identifier(key)}
  from ${sql.identifier(table)} where tenant_id = ${tenantId}
  order by ${sql.identifier(age)} desc, ${sql.identifier(key)} offset ${newest} limit ${MAX_SURPLUS}`

/** Deletes the tenant's oldest logins beyond the newest 20. Call it after the newest one is committed: of calls at once, the last one sees all. */
export async function deleteSurplusStates (db: Db, tenantId: string): Promise<void> {
  await db.execute(sql`delete from oauth_states where state_hash = any(array(
    select state_hash from oauth_states where state_hash = any(array(${surplus('oauth_states', 'state_hash', 'expires_at', tenantId, MAX_STATES)}))
    for update skip locked))`)
}

/** Deletes the tenant's onboardings beyond the newest 20, but none that waits with a token or may still be executed. */
export async function deleteSurplusOnboardings (db: Db, tenantId: string): Promise<void> {
  await db.execute(sql`delete from onboardings where id = any(array(
    select id from onboardings where id = any(array(${surplus('onboardings', 'id', 'created_at', tenantId, MAX_ONBOARDINGS)}))
    and holder is null and not ${isWaitingWithToken} for update skip locked))`)
}
