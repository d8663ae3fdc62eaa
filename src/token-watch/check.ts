import type { FastifyBaseLogger } from 'fastify'
import type { TenantConfigRow } from '../database/schema.js'
import { graphErrorDetails, MetaTokenInvalid } from '../errors.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { MetaApp } from '../meta/types.js'
import type { Vault } from '../vault/vault.js'
import { isExpiring, timeLeft } from './state.js'
import type { TokenStore } from './store.js'

/** A claimed token to check, and its app. */
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
  tokenWatch: Pick<TokenStore, 'record' | 'extend'>
  log: Pick<FastifyBaseLogger, 'info'>
}

/** Makes a call to Meta and waits for it. Throws when the scheduler closes. */
export type MetaCaller = <T>(call: () => Promise<T>) => Promise<T>

interface Inspection { expires_at: string | null, type: string | null }

/** Returns `checkToken`, which inspects one token, extends it when its expiry is near, and records the result. */
export function createTokenCheck ({ vault, metaGraph, tokenWatch, log }: TokenCheckDependencies) {
  /**
   * Checks a token, with at most three calls to Meta. Returns the token that is stored then, sealed; null when it is
   * invalid, or nothing was recorded.
   *
   * @throws without a result: `SECRET_UNREADABLE`, `DATABASE_UNAVAILABLE`, the errors of `callMeta`, and those of
   * `inspectToken` except META_TOKEN_INVALID
   */
  return async function checkToken (task: TokenTask, callMeta: MetaCaller): Promise<string | null> {
    const { row: { tenant_id: tenantId }, sealed, claim } = task
    const token = vault.open(sealed, tenantId, 'access_token')
    const inspection = await inspect(task, token, callMeta)
    if ('reason' in inspection) {
      await tokenWatch.record(tenantId, sealed, { valid: false, ...inspection }, claim)
      return null
    }
    const left = timeLeft(inspection.expires_at, Date.now())
    const longer = left > 0 && isExpiring(left) ? await extend(task, token, inspection, callMeta) : null
    if (longer === null) {
      const finding = { valid: true, expires_at: inspection.expires_at } as const
      return await tokenWatch.record(tenantId, sealed, finding, claim) ? sealed : null
    }
    const replacement = vault.seal(longer.access_token, tenantId, 'access_token')
    return await tokenWatch.extend(tenantId, sealed, replacement, longer.expires_at, claim) ? replacement : null
  }

  async function inspect (
    { app, row }: TokenTask, token: string, callMeta: MetaCaller
  ): Promise<Inspection | { reason: string }> {
    try {
      const { expires_at = row.token_expires_at, type } = await callMeta(() => metaGraph.inspectToken(app, token))
      return { expires_at, type }
    } catch (err) {
      if (err instanceof MetaTokenInvalid) return { reason: reasonOf(err) }
      throw err
    }
  }

  /** Returns a valid token of the same app that lives longer; null when Meta grants none. */
  async function extend ({ app, row }: TokenTask, token: string, inspection: Inspection, callMeta: MetaCaller) {
    try {
      const sixtyDays = inspection.type === 'SYSTEM_USER'
      const granted = await callMeta(() => metaGraph.extendToken(app, token, { sixtyDays }))
      const inspected = await callMeta(() => metaGraph.inspectToken(app, granted.access_token))
      const { expires_at = granted.expires_at } = inspected
      const now = Date.now()
      const isLonger = timeLeft(expires_at, now) > timeLeft(inspection.expires_at, now)
      return isLonger ? { access_token: granted.access_token, expires_at } : null
    } catch (err) {
      if (graphErrorDetails(err) === null) throw err
      log.info({ err, tenant_id: row.tenant_id }, 'a token that ends soon was not extended')
      return null
    }
  }
}

/** Returns why a token is invalid: Meta's code, such as `meta_190_460`, or `other_app` for the token of another app. */
export function reasonOf (err: unknown): string {
  const { meta_code: code, meta_subcode: subcode } = { meta_code: null, meta_subcode: null, ...graphErrorDetails(err) }
  if (code === 100) return 'other_app'
  return ['meta', code ?? 'invalid', subcode ?? []].flat().join('_')
}
