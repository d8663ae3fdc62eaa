import { withConnection } from '../../../src/database/connection.js'
import { secretColumns, type SecretColumn } from '../../../src/schemas/columns.js'
import type { SealFormat } from '../../../src/schemas/statuses.js'
import { rotateKeys } from '../../../src/vault/rotation/rotation.js'
import { createVault, type Vault } from '../../../src/vault/vault.js'
import { newKey, query } from '../../helper.js'

const [one, two] = [newKey(), newKey()]

/** A ring before the rotation, the one of the rotation, and the one after it. */
export const rings = { before: `k1:${one}`, both: `k2:${two},k1:${one}`, after: `k2:${two}` }

/** Rotates the keys of a database on a connection of its own. */
export async function rotate (
  url: string,
  { keyRing = rings.both, format = 'v2' as SealFormat, waitMs = 0, report = (_done: number, _total: number) => {} } = {}
) {
  const vault = createVault({ keyRing })
  return await withConnection(url, async (db) => await rotateKeys(db, vault, { format, waitMs, report }))
}

/** Records a key as the start of a service does. */
export async function addKeys (url: string, keyRing: string): Promise<void> {
  for (const { key_id: id, check_value: value } of createVault({ keyRing }).checkValues()) {
    await query(
      url,
      "insert into vault_keys (key_id, check_value, format) values ($1, $2, 'v2') on conflict do nothing",
      [id, value]
    )
  }
}

/** The secret of a tenant for a column. */
export const secretOf = (tenantId: string, column: SecretColumn) => `${column} of ${tenantId}`

/** Inserts a tenant with all secrets, and returns their ciphertexts. */
export async function insertTenant (
  url: string, vault: Vault, tenantId: string
): Promise<Record<SecretColumn, string>> {
  const sealed = secretColumns.map((column) => vault.seal(secretOf(tenantId, column), tenantId, column))
  const [row] = await query(
    url,
    `insert into tenant_configs (tenant_id, waba_id, phone_number_id, updated_at, ${secretColumns.join(', ')})
     values ($1, 'waba', $1, '2020-01-01Z', $2, $3, $4, $5) returning ${secretColumns.join(', ')}`,
    [tenantId, ...sealed]
  )
  return row as Record<SecretColumn, string>
}

/** An onboarding of a tenant; the defaults are those of one that waits for its tenant. */
interface Onboarding {
  status?: string
  token?: string | null
  former?: string | null
  holder?: boolean
  /** Seconds from now. */
  leaseEnds?: number | null
}

/** Inserts an onboarding. */
export async function insertOnboarding (
  url: string, tenantId: string,
  { status = 'in_progress', token = null, former = null, holder = false, leaseEnds = null }: Onboarding
): Promise<void> {
  await query(
    url,
    `insert into onboardings (tenant_id, code_hash, status, steps, access_token, former, holder, held_until, updated_at)
     values ($1, md5(random()::text), $2, '[]', $3, $4, case when $5 then gen_random_uuid() end,
       now() + $6 * interval '1 second', '2020-01-01Z')`,
    [
      tenantId, status, token,
      former === null ? null : JSON.stringify({ waba_id: 'w', phone_number_id: null, access_token: former }),
      holder, leaseEnds
    ]
  )
}

/** The sealed values of a tenant's row. */
export async function sealedOf (url: string, tenantId: string): Promise<Record<string, unknown>> {
  const rows = await query(
    url,
    `select ${secretColumns.join(', ')} from tenant_configs where tenant_id = $1`,
    [tenantId]
  )
  return rows[0] ?? {}
}

/** The sealed values of a tenant's onboardings, the token first. */
export async function tokensOf (url: string, tenantId: string): Promise<unknown[][]> {
  const rows = await query(
    url,
    `select access_token, former ->> 'access_token' as former
     from onboardings where tenant_id = $1 order by created_at`,
    [tenantId]
  )
  return rows.map((row) => [row['access_token'], row['former']])
}
