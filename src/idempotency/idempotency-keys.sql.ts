import { sql } from 'drizzle-orm'
import type { StoredAnswer } from '../database/schema/idempotency.js'
import { onlyRow, type Queryable } from '../database/statement.js'

/** The key of a tenant, by its hash, and the request that holds the lease on it. */
export interface Lease { tenantId: string, keyHash: string, owner: string }

/** A key after a request came with it. */
export interface KeyState {
  /** Whether the request has the lease, and is to be executed. */
  isOwner: boolean
  /** Whether the key came with the same request before, or for the first time. */
  isSame: boolean
  /** The answer to the same request; null before there is one. */
  answer: StoredAnswer | null
}

// A request renews its lease every 5 seconds. After a crash another one waits for the rest of it.
const LEASE_END = sql`now() + interval '15 seconds'`
/** Keys of a tenant, at most. */
const MAX_KEYS = 1000
/** Surplus keys that one request deletes, at most. */
const MAX_SURPLUS = 100

/**
 * Leases a key for a request: a new or expired key, or one whose same request left no answer and no lease. It is one
 * statement, so that of several requests at once one gets the lease.
 *
 * @param fingerprints those of the request by all keys of the ring; the first is stored
 */
export async function leaseKey (db: Queryable, lease: Lease, fingerprints: string[]): Promise<KeyState> {
  const { tenantId, keyHash, owner } = lease
  const known = sql`${sql.param(fingerprints)}::text[]`
  const isFree = sql`(stored.expires_at <= now() or
    (stored.answer is null and stored.leased_until <= now() and stored.fingerprint = any(${known})))`
  const changes = ['fingerprint', 'lease_owner', 'leased_until', 'answer', 'expires_at'].map(sql.identifier)
    .map((name) => sql`${name} = case when ${isFree} then excluded.${name} else stored.${name} end`)
  return onlyRow(await db.run(sql<KeyState>`
    insert into idempotency_keys as stored (tenant_id, key_hash, fingerprint, lease_owner, leased_until, expires_at)
    values (${tenantId}, ${keyHash}, (${known})[1], ${owner}, ${LEASE_END}, now() + interval '24 hours')
    on conflict (tenant_id, key_hash) do update set ${sql.join(changes, sql`, `)}
    returning lease_owner = ${owner} as "isOwner", fingerprint = any(${known}) as "isSame", answer`))
}

const isOwned = ({ tenantId, keyHash, owner }: Lease) =>
  sql`tenant_id = ${tenantId} and key_hash = ${keyHash} and lease_owner = ${owner}`

/** Extends a lease that the request still owns. */
export async function renewLease (db: Queryable, lease: Lease): Promise<void> {
  await db.count(sql`update idempotency_keys set leased_until = ${LEASE_END} where ${isOwned(lease)}`)
}

/** Ends a lease without an answer: the same request may execute again, and every other one stays refused. */
export async function endLease (db: Queryable, lease: Lease): Promise<void> {
  await db.count(sql`update idempotency_keys set leased_until = now() where ${isOwned(lease)}`)
}

/** Stores the answer of a request. Returns false, without a write, when another request took over its lease. */
export async function storeAnswer (db: Queryable, lease: Lease, answer: StoredAnswer): Promise<boolean> {
  return await db.count(sql`
    update idempotency_keys set answer = ${JSON.stringify(answer)} where ${isOwned(lease)}`) > 0
}

/**
 * Deletes the tenant's keys beyond the newest 1000, but none under a lease. The inner query locks no row, for a lock
 * would change what `offset` counts.
 */
export async function deleteSurplusKeys (db: Queryable, tenantId: string): Promise<void> {
  await db.count(sql`
    delete from idempotency_keys where tenant_id = ${tenantId} and key_hash = any(array(
      select key_hash from idempotency_keys where tenant_id = ${tenantId} and key_hash = any(array(
        select key_hash from idempotency_keys where tenant_id = ${tenantId}
        order by expires_at desc, key_hash offset ${MAX_KEYS} limit ${MAX_SURPLUS}))
      and leased_until <= now() for update skip locked))`)
}
