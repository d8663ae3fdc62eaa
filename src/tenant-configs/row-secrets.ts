import type { TenantConfigRow } from '../database/schema/tenant-configs.js'
import { MaskedValue } from '../errors.js'
import { secretColumns, type SecretColumn, type WritableColumn } from '../schemas/columns.js'
import { isoFromMs } from '../schemas/timestamps.js'
import { isMasked } from '../vault/masking.js'
import { MASK } from '../schemas/fields.js'
import type { Vault } from '../vault/vault.js'

/** The values of a client, in clear: an omitted column keeps its value, null clears it. Times are RFC 3339. */
export type ConfigInput = Partial<Record<WritableColumn, string | null>>

/** The secret columns of a tenant: of its row, or of a version of that. */
type Sealed = Pick<TenantConfigRow, 'tenant_id' | SecretColumn>

export type RowSecrets = ReturnType<typeof createRowSecrets>

/** Creates functions that seal the secrets of clients, and open or mask stored ones. */
export function createRowSecrets ({ vault }: { vault: Pick<Vault, 'seal' | 'open' | 'mask'> }) {
  return {
    /** Returns a secret in clear; undefined when it does not open. */
    tryOpen: (sealed: string, tenantId: string, column: SecretColumn) =>
      withoutFailure(() => vault.open(sealed, tenantId, column)),

    /**
     * Returns the columns as stored; one that the input omits is undefined.
     *
     * @throws MASKED_VALUE
     */
    seal (tenantId: string, input: ConfigInput): ConfigInput {
      const values = { ...input }
      for (const column of secretColumns) {
        const clear = values[column]
        if (clear == null) continue
        if (isMasked(clear)) throw new MaskedValue()
        values[column] = vault.seal(clear, tenantId, column)
      }
      // PostgreSQL rejects offsets of 16 hours or more, and rounds 9999-12-31T23:59:59.9999999Z to a five-digit year.
      if (values.token_expires_at != null) values.token_expires_at = isoFromMs(Date.parse(values.token_expires_at))
      return values
    },

    /**
     * Returns the row in clear.
     *
     * @throws SECRET_UNREADABLE
     */
    reveal: <Row extends Sealed>(row: Row) =>
      withSecrets(row, (sealed, column) => vault.open(sealed, row.tenant_id, column)),

    /**
     * Returns the row with masked secrets.
     *
     * @throws SECRET_UNREADABLE for one in `v1` that does not open
     */
    masked: <Row extends Sealed>(row: Row) =>
      withSecrets(row, (sealed, column) => vault.mask(sealed, row.tenant_id, column)),

    /** Returns the row with masked secrets. One that is unreadable is `****`: the write itself has succeeded. */
    maskedAfterWrite: (row: TenantConfigRow) => withSecrets(row, (sealed, column) =>
      withoutFailure(() => vault.mask(sealed, row.tenant_id, column)) ?? MASK)
  }

  function withSecrets<Row extends Sealed> (row: Row, show: (sealed: string, column: SecretColumn) => string): Row {
    const shown: Partial<Record<SecretColumn, string>> = {}
    for (const column of secretColumns) {
      const sealed = row[column]
      if (sealed !== null) shown[column] = show(sealed, column)
    }
    return { ...row, ...shown }
  }
}

function withoutFailure<T> (read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
