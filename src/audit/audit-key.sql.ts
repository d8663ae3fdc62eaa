import { randomBytes } from 'node:crypto'
import { sql } from 'drizzle-orm'
import type pg from 'pg'
import { serviceSecrets } from '../database/schema/vault.js'
import { onlyRow, toQueryConfig, type Queryable } from '../database/statement.js'
import { SERVICE } from '../schemas/columns.js'
import type { Vault } from '../vault/vault.js'

const KEY_BYTES = 32
const NAME = 'audit_key'

const selectSealed = sql<{ sealed: string }>`select sealed from ${serviceSecrets} where name = ${NAME}`

/**
 * Returns the key that signs the audit log. The first start makes it; of several at once, one does.
 *
 * @throws when the stored key does not open; DATABASE_UNAVAILABLE
 */
export async function obtainAuditKey (
  database: Pick<Queryable, 'run'>, vault: Pick<Vault, 'seal' | 'open'>
): Promise<Buffer> {
  let [stored] = await database.run(selectSealed)
  if (stored === undefined) {
    const sealed = vault.seal(randomBytes(KEY_BYTES).toString('base64'), SERVICE, NAME)
    await database.run(sql`insert into ${serviceSecrets} (name, sealed) values (${NAME}, ${sealed})
      on conflict do nothing`)
    stored = onlyRow(await database.run(selectSealed))
  }
  return Buffer.from(open(stored.sealed, vault), 'base64')
}

/**
 * Returns the key that `obtainAuditKey` made.
 *
 * @throws when there is none yet, or it does not open
 */
export async function readAuditKey (client: pg.Client, vault: Pick<Vault, 'open'>): Promise<Buffer> {
  const { rows: [row] } = await client.query<{ sealed: string }>(toQueryConfig(selectSealed))
  if (row === undefined) throw new Error('There is no audit log yet: the first start of the service makes its key.')
  return Buffer.from(open(row.sealed, vault), 'base64')
}

function open (sealed: string, vault: Pick<Vault, 'open'>): string {
  try {
    return vault.open(sealed, SERVICE, NAME)
  } catch {
    throw new Error('The key of the audit log does not open: ENCRYPTION_KEYS lacks the key that sealed it, or ' +
      'service_secrets was changed. Add the key at the end of the list, or restore the table.')
  }
}
