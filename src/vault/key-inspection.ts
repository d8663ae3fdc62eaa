import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { SealFormat } from '../schemas/statuses.js'
import { countSealed, selectSample, type SealedCount } from './key-check.sql.js'
import type { Vault } from './vault.js'
import { MAX_SEALS } from './seal-counter.js'
import { selectVaultKeys } from './vault-keys.sql.js'

export { keyCountSources, uncountedKeyIds } from './sealed-places.sql.js'

/** Bounds the secrets of each key that are opened. */
const SAMPLE_SIZE = 100

/** The key ring beside the stored secrets: ids of keys and numbers only. */
export interface KeyFindings {
  /** The keys that sealed stored secrets, and are not in the ring. */
  lacking: string[]
  /** The ids under which the ring holds another key than the one of this database. */
  different: string[]
  /** Whether a stored secret is not sealed. */
  hasUnsealed: boolean
  /** The keys that sealed stored secrets, and are in the ring. */
  inUse: string[]
  /** The number of stored secrets that were tried, and of those that did not open. */
  sampled: number
  unreadable: number
}

/** Examines how the key ring fits the database, and changes nothing. */
export async function inspectKeys (db: Pick<NodePgDatabase, 'execute'>, vault: Vault): Promise<KeyFindings> {
  const keyIds = [...new Set((await countSealed(db)).map(({ key_id: id }) => id))]
  const sealing = keyIds.filter((id) => id !== null)
  const inUse = sealing.filter((id) => vault.keyIds.includes(id))
  const keys = await selectVaultKeys(db)
  const samples = []
  for (const id of inUse) samples.push(...await selectSample(db, id, SAMPLE_SIZE))
  return {
    lacking: sealing.filter((id) => !inUse.includes(id)),
    different: keys
      .filter(({ key_id: id, check_value: value }) => vault.keyIds.includes(id) && !vault.hasSealed(value))
      .map(({ key_id: id }) => id),
    hasUnsealed: keyIds.includes(null),
    inUse,
    sampled: samples.length,
    unreadable: samples.filter(({ sealed, tenant_id: id, column }) => !opens(vault, sealed, id, column)).length
  }
}

/** A key of the ring, or one that was in it or sealed a stored secret. */
export interface ListedKey {
  key_id: string
  ring: 'first' | 'yes' | 'no'
  /** The stored secrets that it sealed, and those of them in `v1`. */
  values: number
  values_in_v1: number
  /** The format that it seals in, its seals, and their share of the bound; null before its first start. */
  use: { format: SealFormat, seals: number, share: number } | null
}

/** Sums the counts that a condition holds for. */
export const sumCounts = (counts: SealedCount[], isMeant: (found: SealedCount) => boolean): number =>
  counts.filter(isMeant).reduce((sum, { count }) => sum + count, 0)

/** Lists all keys, those of the ring first, and counts the stored secrets that are not sealed. Reads all rows. */
export async function listKeys (
  db: Pick<NodePgDatabase, 'execute'>, { keyIds }: Pick<Vault, 'keyIds'>
): Promise<{ keys: ListedKey[], unsealed: number }> {
  const [counts, known] = [await countSealed(db), await selectVaultKeys(db)]
  const inUse = counts.flatMap(({ key_id: id }) => id ?? [])
  const ids = new Set([...keyIds, ...known.map(({ key_id: id }) => id), ...inUse])
  const keys = [...ids].map((id): ListedKey => {
    const key = known.find((key) => key.key_id === id)
    return {
      key_id: id,
      ring: id === keyIds[0] ? 'first' : keyIds.includes(id) ? 'yes' : 'no',
      values: sumCounts(counts, (found) => found.key_id === id),
      values_in_v1: sumCounts(counts, (found) => found.key_id === id && found.format === 'v1'),
      use: key === undefined ? null : { format: key.format, seals: key.seals, share: key.seals / MAX_SEALS }
    }
  })
  return { keys, unsealed: sumCounts(counts, (found) => found.key_id === null) }
}

/** Returns how many secrets each key has sealed, by its id. */
export async function sealsByKey (db: Pick<NodePgDatabase, 'execute'>): Promise<Record<string, number>> {
  return Object.fromEntries((await selectVaultKeys(db)).map(({ key_id: id, seals }) => [id, seals]))
}

function opens (vault: Vault, ...secret: Parameters<Vault['open']>): boolean {
  try {
    vault.open(...secret)
    return true
  } catch {
    return false
  }
}
