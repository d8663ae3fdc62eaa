import { sql } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { vaultKeys } from '../database/schema/vault.js'
import type { SealFormat } from '../schemas/statuses.js'

/** A key that was ever in the ring; see `vaultKeys`. */
export type VaultKey = Pick<typeof vaultKeys.$inferSelect, 'key_id' | 'check_value' | 'format' | 'seals'>

/** Returns all keys that were ever in the ring, in the order of their ids. */
export async function selectVaultKeys (db: Pick<NodePgDatabase, 'execute'>): Promise<VaultKey[]> {
  const { rows } = await db.execute<VaultKey & Record<string, unknown>>(sql`
    select key_id, check_value, format, seals::float8 as seals from ${vaultKeys} order by key_id`)
  return rows
}

/** The format that a key seals in, and the number of secrets that it has sealed. */
export type KeyUse = Pick<VaultKey, 'format' | 'seals'>

/** Adds to the seals of a key; no row for an unknown one. */
export const addSeals = (keyId: string, seals: number) => sql<KeyUse & Record<string, unknown>>`
  update ${vaultKeys} set seals = seals + ${seals} where key_id = ${keyId} returning format, seals::float8 as seals`

/** Reads the use of a key; no row for an unknown one. */
export const keyUse = (keyId: string) => sql<KeyUse>`
  select format, seals::float8 as seals from ${vaultKeys} where key_id = ${keyId}`

/** Sets the format of a key. Running instances learn it within a minute. */
export async function setFormat (
  db: Pick<NodePgDatabase, 'execute'>, keyId: string, format: SealFormat
): Promise<void> {
  await db.execute(sql`update ${vaultKeys} set format = ${format} where key_id = ${keyId} and format <> ${format}`)
}
