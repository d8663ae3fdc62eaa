import { setTimeout as pause } from 'node:timers/promises'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { hasSqlState } from '../../database/database-errors.js'
import type { SealFormat } from '../../schemas/statuses.js'
import { countSealed, otherKey, type SealedCount, type StoredSecret } from '../key-check.sql.js'
import { sumCounts } from '../key-inspection.js'
import { sealedTables } from '../sealed-places.sql.js'
import { prefixOf } from '../sealed-text.js'
import { addSeals, selectVaultKeys, setFormat } from '../vault-keys.sql.js'
import type { Vault } from '../vault.js'
import {
  inRotation, lockTenants, nextTenants, replaceSealed, selectOutdated,
  type NewValues, type OutdatedSecret, type TenantPage
} from './rotation.sql.js'

/** Rows that one statement looks for. */
const PAGE = 1000
/** Tenants of one transaction: their rows are locked for some milliseconds. */
const BATCH = 50
const PAUSE_MS = 1000
/** Unreadable values that are named. */
const MAX_NAMED = 100

interface RotationOptions {
  /** The format to seal in from now on. */
  format: SealFormat
  /** The time in which further passes replace values that were locked, leased or stored during the first one. */
  waitMs: number
  /** Called after each transaction: the values that are done with, of those that were to be replaced at the start. */
  report: (done: number, total: number) => void
}

/** The values that do not open: how many, and where the first ones are. */
export interface Unreadable { count: number, places: Array<Pick<StoredSecret, 'tenant_id' | 'column'>> }

export type { SealedCount } from '../key-check.sql.js'

/** The end of a rotation. */
export interface Rotation {
  /** The first key of the ring. */
  keyId: string
  /** The number of values that it replaced. */
  replaced: number
  unreadable: Unreadable
  /** All stored values. */
  counts: SealedCount[]
}

/** Counts the values that this key did not seal in this format. */
export const countOutdated = (counts: SealedCount[], keyId: string, format: SealFormat): number =>
  sumCounts(counts, (found) => found.key_id !== keyId || found.format !== format)

/**
 * Seals every stored secret with the first key of the ring, in a format, while the service runs. It may be killed and
 * run again, and run twice at once. Equal values of a tenant stay equal: onboardings compare them.
 *
 * @param db a separate connection
 * @throws when the ring does not fit the database, or another rotation sets another format
 */
export async function rotateKeys (
  db: NodePgDatabase, vault: Vault, { format, waitMs, report }: RotationOptions
): Promise<Rotation> {
  const keyId = await findSealingKey(db, vault)
  const prefix = prefixOf(format, keyId)
  await setFormat(db, keyId, format)
  vault.useFormat(format)
  const total = countOutdated(await inRotation(db, countSealed), keyId, format)
  let replaced = 0
  let seals = 0
  let deadline = Infinity
  /** The tenants of a pass with values that do not open. Other tables have more of the same values. */
  const closedTenants = new Set<string>()
  for (;;) {
    closedTenants.clear()
    const unreadable: Unreadable = { count: 0, places: [] }
    for (const table of sealedTables) await rotateTable(table, unreadable)
    const counts = await inRotation(db, countSealed)
    deadline = Math.min(deadline, performance.now() + waitMs)
    const isComplete = countOutdated(counts, keyId, format) <= unreadable.count
    if (isComplete || performance.now() >= deadline) return { keyId, replaced, unreadable, counts }
    await pause(PAUSE_MS)
  }

  async function rotateTable (table: typeof sealedTables[number], unreadable: Unreadable): Promise<void> {
    let page: TenantPage = { tenantIds: [], last: null }
    do {
      page = await inRotation(db, async (tx) => await nextTenants(tx, table, prefix, page.last, PAGE))
      const tenantIds = page.tenantIds.filter((id) => !closedTenants.has(id))
      for (let first = 0; first < tenantIds.length; first += BATCH) {
        await replaceUnlocked(tenantIds.slice(first, first + BATCH), unreadable)
      }
    } while (page.last !== null)
  }

  /** Replaces the values of tenants. One that another transaction locks is left to the next pass. */
  async function replaceUnlocked (tenantIds: string[], unreadable: Unreadable): Promise<void> {
    try {
      await replace(tenantIds, unreadable)
    } catch (err) {
      // 55P03 lock timeout · 40P01 deadlock.
      if (!hasSqlState(err, '55P03', '40P01')) throw err
      if (tenantIds.length === 1) return
      const middle = Math.ceil(tenantIds.length / 2)
      await replaceUnlocked(tenantIds.slice(0, middle), unreadable)
      await replaceUnlocked(tenantIds.slice(middle), unreadable)
    }
  }

  async function replace (tenantIds: string[], unreadable: Unreadable): Promise<void> {
    const { count, closed } = await inRotation(db, async (tx) => {
      await lockTenants(tx, tenantIds)
      const { byTenant, ...outcome } = sealAnew(vault, await selectOutdated(tx, tenantIds, prefix))
      seals += vault.takeSeals()
      for (const table of sealedTables) await replaceSealed(tx, table, byTenant)
      const { rows: [key] } = await tx.execute(addSeals(keyId, seals))
      if (key?.format !== format) throw new Error(`Another rotation has set another format than ${format} meanwhile.`)
      return outcome
    })
    seals = 0
    replaced += count
    for (const { tenant_id, column, count } of closed) {
      closedTenants.add(tenant_id)
      unreadable.count += count
      if (unreadable.places.length < MAX_NAMED) unreadable.places.push({ tenant_id, column })
    }
    report(replaced + unreadable.count, total)
  }
}

/** Returns the id of the first key. Throws when the ring does not fit the database. */
async function findSealingKey (db: NodePgDatabase, vault: Vault): Promise<string> {
  const keys = await selectVaultKeys(db)
  const different = keys.find(({ key_id: id, check_value: value }) =>
    vault.keyIds.includes(id) && !vault.hasSealed(value))
  if (different !== undefined) throw otherKey(different.key_id)
  const [first] = vault.keyIds
  const known = keys.find(({ key_id: id }) => id === first)
  if (known !== undefined) return known.key_id
  // Running instances that lack the key could open nothing any more.
  throw new Error(`No instance has started with the key ${first} yet. Restart all instances with it, then try again.`)
}

/** Seals values anew. Returns the new ones by tenant, how many values they replace, and those that do not open. */
function sealAnew (vault: Vault, secrets: OutdatedSecret[]) {
  const byTenant = new Map<string, NewValues>()
  const closed: OutdatedSecret[] = []
  let count = 0
  for (const secret of secrets) {
    const { tenant_id: tenantId, column, sealed } = secret
    let clear: string
    try {
      clear = vault.open(sealed, tenantId, column)
    } catch {
      closed.push(secret)
      continue
    }
    const values = byTenant.get(tenantId) ?? {}
    byTenant.set(tenantId, values);
    (values[column] ??= {})[sealed] = vault.seal(clear, tenantId, column)
    count += secret.count
  }
  return { byTenant, count, closed }
}
