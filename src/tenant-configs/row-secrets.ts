import type { TenantConfigRow } from '../database/schema.js'
import { MaskedValue } from '../errors.js'
import { secretColumns, type SecretColumn, type WritableColumn } from '../schemas/columns.js'
import { isoFromMs } from '../schemas/timestamps.js'
import { isMasked, mask } from '../vault/masking.js'
import { MASK } from '../schemas/fields.js'
import type { Vault } from '../vault/vault.js'

/** What a client writes, in clear: a column left out stays, null clears it. Times are RFC 3339. */
export type ConfigInput = Partial<Record<WritableColumn, string | null>>

/** Seals the secrets that clients send, and opens or masks those that they read. */
export function createRowSecrets ({ vault }: { vault: Pick<Vault, 'seal' | 'open'> }) {
  return {
    tryOpen,

    /** The columns as they are stored; a column that the input leaves out is undefined. Throws `MASKED_VALUE`. */
    seal (tenantId: string, input: ConfigInput): ConfigInput {
      const values = { ...input }
      for (const column of secretColumns) {
        const clear = values[column]
        if (clear == null) continue
        if (isMasked(clear)) throw new MaskedValue()
        values[column] = vault.seal(clear, tenantId, column)
      }
      // PostgreSQL takes no offset of 16 hours or more, and rounds 9999-12-31T23:59:59.9999999Z up to a five-digit year.
      if (values.token_expires_at != null) values.token_expires_at = isoFromMs(Date.parse(values.token_expires_at))
      return values
    },

    /** The row in clear. Throws `SECRET_UNREADABLE`. */
    reveal: (row: TenantConfigRow) => withSecrets(row, (sealed, column) => vault.open(sealed, row.tenant_id, column)),

    /** The row with masked secrets. Throws `SECRET_UNREADABLE`. */
    masked: (row: TenantConfigRow) => withSecrets(row, (sealed, column) => mask(vault.open(sealed, row.tenant_id, column))),

    /** The row with masked secrets after a write: a secret that does not open reads `****`, and fails nothing. */
    maskedAfterWrite: (row: TenantConfigRow) =>
      withSecrets(row, (sealed, column) => mask(tryOpen(sealed, row.tenant_id, column) ?? MASK))
  }

  /** Opens a secret; undefined when it does not open. */
  function tryOpen (sealed: string, tenantId: string, column: SecretColumn): string | undefined {
    try {
      return vault.open(sealed, tenantId, column)
    } catch {
      return undefined
    }
  }

  /** The row with each of its secrets replaced by what `show` returns for it. */
  function withSecrets (row: TenantConfigRow, show: (sealed: string, column: SecretColumn) => string): TenantConfigRow {
    const shown = { ...row }
    for (const column of secretColumns) {
      const sealed = row[column]
      if (sealed !== null) shown[column] = show(sealed, column)
    }
    return shown
  }
}
