import type pg from 'pg'
import type { Vault } from '../vault/vault.js'
import { readAuditKey } from './audit-key.sql.js'
import type { Head, HeadRow } from './chain.js'
import { headsQuery, partsQuery, readInBatches } from './inspection.sql.js'
import { createVerifier, type BrokenLink } from './verifier.js'

export type { HeadRow } from './chain.js'
export type { BrokenLink } from './verifier.js'

/** Reads the heads of all chains or of one tenant, and passes them on in batches. */
export async function readHeads (
  client: pg.Client, tenantId: string | undefined, take: (heads: HeadRow[]) => void
): Promise<void> {
  await readInBatches(client, headsQuery(tenantId), take)
}

interface Verification {
  /** Verifies the chain of this tenant alone. */
  tenantId: string | undefined
  /** Heads as `readHeads` gave them earlier. */
  noted: HeadRow[]
  /** Is called with the first broken link of each chain. */
  report: (link: BrokenLink) => void
  /** Is called now and then with the number of records so far. */
  progress: (records: number) => void
}

/**
 * Verifies the audit log while writers go on. Returns the number of records and of broken chains.
 *
 * @throws when the audit key does not open, or there is none
 */
export async function verifyAuditLog (
  client: pg.Client, vault: Pick<Vault, 'open'>, { tenantId, noted, report, progress }: Verification
): Promise<{ records: number, broken: number }> {
  const key = await readAuditKey(client, vault)
  const heads = new Map<string, Head>(noted.map(({ tenant_id, ...head }) => [tenant_id, head]))
  const count = { records: 0, broken: 0 }
  const verifier = createVerifier(key, heads, (link) => {
    count.broken++
    report(link)
  })
  await readInBatches(client, partsQuery(tenantId), (rows) => {
    for (const { signature, ...record } of rows) {
      const { tenant_id, seq, hmac } = record
      verifier.add(signature === null ? { record } : { checkpoint: { tenant_id, seq, hmac, signature } })
    }
    count.records += rows.filter(({ signature }) => signature === null).length
    progress(count.records)
  })
  verifier.end()
  return count
}
