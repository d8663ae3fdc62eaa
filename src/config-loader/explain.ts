import type { ConfigKey } from '../schemas/columns.js'
import type { EffectiveConfig } from '../schemas/effective.js'
import { MASK } from '../schemas/fields.js'
import { mask } from '../vault/masking.js'
import type { Vault } from '../vault/vault.js'
import { sealedColumns, type ExplainedRow, type SealedColumn } from './config-rows.sql.js'
import { isActive, type ConfigDecision } from './resolve.js'
import { ConfigSnapshot, eachValue } from './snapshot.js'

/** The decision of the loader about a tenant, and its reason. It holds no secret. */
export type Explanation = EffectiveConfig

/** The text of each reason: why, and what to do. */
const explanations: Record<Explanation['reason'], string> = {
  ACTIVE_ROW: 'The tenant has an active configuration, which serves; to change what it serves, send PUT /config.',
  NO_ROW: 'The tenant has no configuration, so the values of .env serve; to give it one, send POST /config or onboard.',
  INACTIVE_ROW: 'The configuration is turned off, so the values of .env serve; ' +
    'to have it serve, send POST /config/activate.',
  CONFIG_NOT_FOUND: 'The tenant has no configuration, and CONFIG_FALLBACK lets nothing serve instead; ' +
    'to give it one, send POST /config or onboard.',
  TOKEN_DEAD: 'The access token is revoked, expired or to be authorised again, and CONFIG_REFUSE_DEAD_TOKENS ' +
    'lets it serve nobody; onboard again, or send another access_token with PUT /config.',
  TENANT_INACTIVE: 'The configuration is turned off, and CONFIG_FALLBACK lets nothing serve instead; ' +
    'to have it serve, send POST /config/activate.',
  SECRET_UNREADABLE: 'The access token of the configuration does not open, so nothing serves; ' +
    'send those of `unreadable` again with PUT /config, or have the row or its key restored.'
}

interface ExplanationDependencies {
  vault: Pick<Vault, 'open' | 'mask' | 'keyIdOf'>
  /** The one by which the loader itself serves. */
  decision: ConfigDecision
}

/** Returns `explain`, which explains the decision of the loader about a row. */
export function createExplanation ({ vault, decision }: ExplanationDependencies) {
  function opens (sealed: string, tenantId: string, column: SealedColumn): boolean {
    try {
      vault.open(sealed, tenantId, column)
      return true
    } catch {
      return false
    }
  }

  function describeRow (row: ExplainedRow): Explanation['row'] {
    const stored = sealedColumns.flatMap((column) => row[column] === null ? [] : [{ column, sealed: row[column] }])
    const keyIds = stored.map(({ sealed }) => vault.keyIdOf(sealed)).filter((id) => id !== null)
    const unreadable = stored.filter(({ column, sealed }) => !opens(sealed, row.tenant_id, column))
    return {
      is_active: row.is_active,
      updated_at: row.updated_at,
      key_ids: [...new Set(keyIds)].sort(),
      unreadable: unreadable.map(({ column }) => column)
    }
  }

  function decide (row: ExplainedRow | undefined): Pick<Explanation, 'decision' | 'reason' | 'values'> {
    try {
      const found = decision.fromRow(row)
      if (isActive(found)) {
        decision.assertTokenServes(found)
        return { decision: 'serve', reason: 'ACTIVE_ROW', values: maskedValues(found) }
      }
      const reason = found === 'missing' ? 'NO_ROW' : 'INACTIVE_ROW'
      return { decision: 'fall_back', reason, values: maskedValues(decision.withoutRow(found)) }
    } catch (err) {
      if (err instanceof Error && 'code' in err && isReason(err.code)) {
        return { decision: 'refuse', reason: err.code, values: eachValue(() => ({ value: null, source: null })) }
      }
      throw err
    }
  }

  /** The values with their sources. Secrets of the platform itself are masked whole. */
  function maskedValues (config: ConfigSnapshot): Explanation['values'] {
    const [values, sources] = [ConfigSnapshot.cachedValues(config), config.getSources()]
    return eachValue((key) => {
      const [value, source] = [values[key], sources[key]]
      if (value === null || !isSecret(key)) return { value, source }
      return { value: source === 'env' ? MASK : maskOwn(value, String(config.getTenantId()), key), source }
    })
  }

  function maskOwn (value: string, tenantId: string, column: SealedColumn): string {
    if (column === 'access_token') return mask(value)
    try {
      return vault.mask(value, tenantId, column)
    } catch {
      // It is among the unreadable ones of the row.
      return MASK
    }
  }

  return function explain (tenantId: string, row: ExplainedRow | undefined): Explanation {
    const { decision, reason, values } = decide(row)
    return {
      tenant_id: tenantId,
      decision,
      reason,
      explanation: explanations[reason],
      row: row === undefined ? null : describeRow(row),
      values
    }
  }
}

const isReason = (code: unknown): code is Explanation['reason'] => typeof code === 'string' && code in explanations

const isSecret = (key: ConfigKey): key is SealedColumn => sealedColumns.some((column) => column === key)
