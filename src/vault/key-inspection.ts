import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { isInUse, selectCheckValues, selectKeysInUse, selectSample } from './key-check.sql.js'
import type { Vault } from './vault.js'

/** Bounds the secrets of each key that are opened. */
const SAMPLE_SIZE = 100

/** How the key ring fits what is stored. It has ids of keys and numbers only. */
export interface KeyFindings {
  /** The keys that sealed stored secrets, and are not in the ring. */
  lacking: string[]
  /** The ids under which the ring holds another key than the one of this database. */
  different: string[]
  /** Whether a stored secret is not sealed. */
  hasUnsealed: boolean
  /** The keys that sealed stored secrets, and are in the ring. */
  inUse: string[]
  /** How many stored secrets were opened, and how many of them could not be. */
  sampled: number
  unreadable: number
}

/** Examines how the key ring fits the database, and changes nothing. */
export async function inspectKeys (db: Pick<NodePgDatabase, 'execute'>, vault: Vault): Promise<KeyFindings> {
  const keyIds = await selectKeysInUse(db)
  const sealing = keyIds.filter((id) => id !== null)
  const inUse = sealing.filter((id) => vault.keyIds.includes(id))
  const checkValues = await selectCheckValues(db)
  const samples = []
  for (const id of inUse) samples.push(...await selectSample(db, id, SAMPLE_SIZE))
  return {
    lacking: sealing.filter((id) => !inUse.includes(id)),
    different: checkValues
      .filter(({ key_id: id, check_value: value }) => vault.keyIds.includes(id) && !vault.hasSealed(value))
      .map(({ key_id: id }) => id),
    hasUnsealed: keyIds.includes(null),
    inUse,
    sampled: samples.length,
    unreadable: samples.filter(({ sealed, tenant_id: id, column }) => !opens(vault, sealed, id, column)).length
  }
}

/** Returns the keys of the ring, each with whether it sealed a stored secret. May read all rows for each key. */
export async function findKeysInUse (
  db: Pick<NodePgDatabase, 'execute'>, { keyIds }: Pick<Vault, 'keyIds'>
): Promise<Map<string, boolean>> {
  const found = new Map<string, boolean>()
  for (const id of keyIds) found.set(id, await isInUse(db, id))
  return found
}

function opens (vault: Vault, ...secret: Parameters<Vault['open']>): boolean {
  try {
    vault.open(...secret)
    return true
  } catch {
    return false
  }
}
