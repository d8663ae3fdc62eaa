import { withReader } from '../../database/connection.js'
import { describeForTerminal } from '../../logger.js'
import type { Fetch } from '../../outbound/outbound.js'
import type { Env } from '../../settings/env.js'
import { parseRingEntries } from '../../settings/key-ring.js'
import { inspectKeys, type KeyFindings } from '../../vault/key-inspection.js'
import { createVault, type Vault } from '../../vault/vault.js'
import { unwrapKeyRing } from '../../vault/wrapping/wrapping.js'
import { failed, ok, type Finding } from './checks.js'

/** Unwraps the wrapped keys of the ring, with one attempt for each. `vault` is null if one cannot be unwrapped. */
export async function checkWrappedKeys (env: Env, fetch: Fetch): Promise<{ wrapped: Finding, vault: Vault | null }> {
  const wrapped = parseRingEntries(env.ENCRYPTION_KEYS).flatMap((key) => 'kms' in key ? `${key.id} (${key.kms})` : [])
  try {
    const vault = createVault({ keyRing: await unwrapKeyRing(env, { fetch }) })
    return {
      wrapped: ok(wrapped.length === 0 ? 'No key is wrapped.' : `The wrapped keys open: ${wrapped.join(', ')}.`), vault
    }
  } catch (err) {
    const detail = describeForTerminal(err).replaceAll('\n  ', ' ')
    return { wrapped: failed(detail, 'Do what it says, then run this again.'), vault: null }
  }
}

/** Checks that the ring has every key that stored secrets are sealed with, and that a sample of them opens. */
export async function checkKeys (vault: Vault, url: string): Promise<Finding> {
  try {
    return judge(await withReader(url, async (db) => await inspectKeys(db, vault)))
  } catch (err) {
    return failed(describeForTerminal(err), 'See why the database refuses it, then run this again.')
  }
}

function judge ({ lacking, different, hasUnsealed, inUse, sampled, unreadable }: KeyFindings): Finding {
  if (different.length > 0) {
    return failed(
      `ENCRYPTION_KEYS holds another key under ${ids(different)} than the one this database was sealed with.`,
      'Restore the former key in ENCRYPTION_KEYS, and give the new one a new id.'
    )
  }
  if (lacking.length > 0) {
    return failed(
      `ENCRYPTION_KEYS lacks ${ids(lacking)}, which stored secrets are sealed with.`,
      'Add it at the end of ENCRYPTION_KEYS.'
    )
  }
  if (hasUnsealed || unreadable > 0) {
    const what = hasUnsealed ? 'Some stored secrets are not sealed' : `${unreadable} of ${sampled} secrets do not open`
    return failed(
      `${what}: they were changed or moved in the database.`,
      'Restore tenant_configs and vault_keys together, or store the secrets again with PUT /config.'
    )
  }
  if (inUse.length === 0) return ok('No secret is stored yet.')
  return ok(`ENCRYPTION_KEYS has every key in use (${inUse.join(', ')}), and a sample of ${sampled} secrets opens.`)
}

const ids = (keyIds: string[]) => `the key ${keyIds.join(', ')}`
