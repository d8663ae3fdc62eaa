import type { FastifyInstance } from 'fastify'
import type { TenantConfigRow } from '../database/schema.js'
import { MetaTokenInvalid } from '../errors.js'
import { isExpiring, timeLeft } from './state.js'
import type { MetaApp, MetaGraph } from '../meta/meta-graph.js'
import { graphErrorDetails } from '../meta/http-client.js'
import type { TokenWatch } from './store.js'
import type { Vault } from '../vault/vault.js'

/** A stored token that is to be checked under a claim of the monitor's, and the app that it is for. */
export interface TokenTask {
  row: Pick<TenantConfigRow, 'tenant_id' | 'token_expires_at'>
  /** The token as it is stored. */
  sealed: string
  app: MetaApp
  claim: string
}

interface TokenCheckDependencies {
  vault: Pick<Vault, 'open' | 'seal'>
  metaGraph: Pick<MetaGraph, 'inspectToken' | 'extendToken'>
  tokenWatch: Pick<TokenWatch, 'record' | 'extend'>
  log: Pick<FastifyInstance['log'], 'info'>
}

/** Makes a call to Meta and waits for it, or throws when there is no time left. */
export type MetaCaller = <T>(call: () => Promise<T>) => Promise<T>

interface Found { expires_at: string | null, type: string | null }

/** A check of one token: asks Meta about it, extends it when its end is near, and notes what was found. */
export function createTokenCheck ({ vault, metaGraph, tokenWatch, log }: TokenCheckDependencies) {
  /**
   * Checks a token, with three calls to Meta at most. Returns the token that is stored then, sealed; null when it is not
   * valid, or when nothing was noted.
   * Throws when nothing was found: `SECRET_UNREADABLE`, what `inspectToken` throws but META_TOKEN_INVALID, `DATABASE_UNAVAILABLE`,
   * and what `waiting` throws.
   */
  return async function check (task: TokenTask, waiting: MetaCaller): Promise<string | null> {
    const { row, sealed, app, claim } = task
    const token = vault.open(sealed, row.tenant_id, 'access_token')
    const found = await inspected(task, token, waiting)
    if ('reason' in found) {
      await tokenWatch.record(row.tenant_id, sealed, { valid: false, ...found }, claim)
      return null
    }
    const left = timeLeft(found.expires_at, Date.now())
    if (left > 0 && isExpiring(left)) {
      const longer = await extended(app, token, found, row.tenant_id, waiting)
      if (longer !== null) {
        const stored = vault.seal(longer.access_token, row.tenant_id, 'access_token')
        return await tokenWatch.extend(row.tenant_id, sealed, stored, longer.expires_at, claim) ? stored : null
      }
    }
    return await tokenWatch.record(row.tenant_id, sealed, { valid: true, expires_at: found.expires_at }, claim) ? sealed : null
  }

  async function inspected ({ app, row }: TokenTask, token: string, waiting: MetaCaller): Promise<Found | { reason: string }> {
    try {
      const { expires_at = row.token_expires_at, type } = await waiting(() => metaGraph.inspectToken(app, token))
      return { expires_at, type }
    } catch (err) {
      if (err instanceof MetaTokenInvalid) return { reason: reasonOf(err) }
      throw err
    }
  }

  /** A token in the place of one that ends soon, valid and of the same app; null when Meta grants none that lives longer. */
  async function extended (app: MetaApp, token: string, found: Found, tenantId: string, waiting: MetaCaller) {
    try {
      const granted = await waiting(() => metaGraph.extendToken(app, token, { sixtyDays: found.type === 'SYSTEM_USER' }))
      const { expires_at = granted.expires_at } = await waiting(() => metaGraph.inspectToken(app, granted.access_token))
      const now = Date.now()
      return timeLeft(expires_at, now) > timeLeft(found.expires_at, now) ? { access_token: granted.access_token, expires_at } : null
    } catch (err) {
      if (graphErrorDetails(err) === null) throw err
      log.info({ err, tenant_id: tenantId }, 'a token that ends soon was not extended')
      return null
    }
  }
}

/** Why Meta calls a token invalid: its own code, such as `meta_190_460`; `other_app` when it is the token of another app. */
export function reasonOf (err: unknown): string {
  const { meta_code: code, meta_subcode: subcode } = { meta_code: null, meta_subcode: null, ...graphErrorDetails(err) }
  if (code === 100) return 'other_app'
  return ['meta', code ?? 'invalid', subcode ?? []].flat().join('_')
}
