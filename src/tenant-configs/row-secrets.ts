import { isoFromMs, secretColumns, type SecretColumn, type TenantConfigRow } from '../database/schema.js'
import { emptyWritableColumns, type WritableColumn } from './tenant-configs.sql.js'
import { MaskedValue } from '../errors.js'
import { isMasked, mask, MASK } from '../vault/masking.js'
import type { Vault } from '../vault/vault.js'

/** What a client writes, in clear: a column left out stays, null clears it. Times are RFC 3339. */
export type ConfigInput = Partial<Record<WritableColumn, string | null>>

/** Between what clients send and read, and what stands in a row: seals the secrets of the one, opens or masks those of the other. */
export function createRowSecrets ({ vault }: { vault: Pick<Vault, 'seal' | 'open'> }) {
  /** Opens a secret; undefined when it does not open. */
  function tryOpen (stored: string, tenantId: string, column: SecretColumn): string | undefined {
    try {
      return vault.open(stored, tenantId, column)
    } catch {
      return undefined
    }
  }

  /** The row with each of its secrets replaced by what `show` makes of it. */
  function withSecrets (row: TenantConfigRow, show: (sealed: string, column: SecretColumn) => string): TenantConfigRow {
    const shown = { ...row }
    for (const column of secretColumns) {
      const stored = row[column]
      if (stored !== null) shown[column] = show(stored, column)
    }
    return shown
  }

  return {
    tryOpen,

    /** The columns as they are stored; what the input leaves out is null. Throws `MASKED_VALUE`. */
    seal (tenantId: string, input: ConfigInput): Record<WritableColumn, string | null> {
      const values: Record<WritableColumn, string | null> = { ...emptyWritableColumns, ...input }
      for (const column of secretColumns) {
        const clear = values[column]
        if (clear === null) continue
        if (isMasked(clear)) throw new MaskedValue()
        values[column] = vault.seal(clear, tenantId, column)
      }
      // PostgreSQL takes no offset of 16 hours or more, and rounds 9999-12-31T23:59:59.9999999Z up to a year it writes with five digits.
      if (values.token_expires_at !== null) values.token_expires_at = isoFromMs(Date.parse(values.token_expires_at))
      return values
    },

    /** The row in clear. Throws `SECRET_UNREADABLE`. */
    reveal: (row: TenantConfigRow) => withSecrets(row, (stored, column) => vault.open(stored, row.tenant_id, column)),

    /** The row with masked secrets. Throws `SECRET_UNREADABLE`. */
    masked: (row: TenantConfigRow) => withSecrets(row, (stored, column) => mask(vault.open(stored, row.tenant_id, column))),

    /** The row with masked secrets after a write, which one that does not open must not fail: it reads `****`. */
    maskedAfterWrite: (row: TenantConfigRow) => withSecrets(row, (stored, column) => mask(tryOpen(stored, row.tenant_id, column) ?? MASK))
  }
}
