import type { FastifyBaseLogger } from 'fastify'
import { graphErrorDetails, MetaTokenInvalid } from '../errors.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { MetaApp } from '../meta/types.js'
import type { Vault } from '../vault/vault.js'
import type { Listing } from './listing.js'
import { endOf, isExpiring, timeLeft, type TokenEnds, type TokenFinding } from './state.js'
import type { ClaimedRow } from './token-watch.sql.js'

/** A claimed token: its row, its ciphertext and its claim. */
export interface Due {
  row: Pick<
    ClaimedRow,
    'tenant_id' | 'waba_id' | 'phone_number_id' | 'token_expires_at' | 'data_access_ends_at' | 'is_verified' |
    'updated_at'
  >
  sealed: string
  claim: string
}

/** The finding of a check. A `fault` keeps the token from being checked; it is due again in `wait` milliseconds. */
export type CheckFinding = TokenFinding | { fault: string, wait: number }

/** The result of a check. `replacement`: the extended token, sealed, and its expiry, if Meta granted one. */
export interface CheckResult {
  finding: CheckFinding
  replacement: { sealed: string, expires_at: string | null } | null
  listing: Listing
}

/** Makes a call to Meta and waits for it. Throws when the scheduler closes. */
export type MetaCaller = <T>(call: () => Promise<T>) => Promise<T>

interface TokenCheckDependencies {
  vault: Pick<Vault, 'open' | 'seal'>
  metaGraph: Pick<MetaGraph, 'inspectToken' | 'extendToken' | 'listPhoneNumbers'>
  log: Pick<FastifyBaseLogger, 'info'>
  callMeta: MetaCaller
}

/** Makes the calls to Meta of a check. */
export function createTokenCheck ({ vault, metaGraph, log, callMeta }: TokenCheckDependencies) {
  return {
    checkToken,

    /**
     * Lists the numbers of the account with the token alone, unless there is nothing to learn from them.
     *
     * @throws `SECRET_UNREADABLE`, and errors that are not Meta's
     */
    listWithoutApp: async (due: Due): Promise<Listing> => await list(due, undefined, openToken(due))
  }

  /**
   * Inspects a token and lists the numbers of its account, side by side; extends the token when its expiry is near.
   * Makes at most four calls.
   *
   * @throws `SECRET_UNREADABLE`, the errors of `callMeta`, and those of `inspectToken` except META_TOKEN_INVALID
   */
  async function checkToken (due: Due, app: MetaApp): Promise<CheckResult> {
    const token = openToken(due)
    const calls = [inspect(due, app, token), list(due, app, token)] as const
    // Both have ended when one throws: a check makes no calls after its end.
    await Promise.allSettled(calls)
    const [inspection, listing] = await Promise.all(calls)
    const result = { replacement: null, listing }
    if ('reason' in inspection) return { ...result, finding: { valid: false, ...inspection } }
    const { type, ...ends } = inspection
    const now = Date.now()
    const isNear = endOf(ends, now).left > 0 && isExpiring(timeLeft(ends.expires_at, now))
    // The access to data lasts longer only after a new login.
    const extended = isNear ? await extend(due, app, token, inspection) : null
    return extended === null ? { ...result, finding: { valid: true, ...ends } } : { ...result, ...extended }
  }

  async function list ({ row }: Due, app: MetaApp | undefined, token: string): Promise<Listing> {
    const { waba_id: wabaId, phone_number_id: phoneNumberId, is_verified: isVerified } = row
    if (wabaId === null || (phoneNumberId === null && isVerified)) return null
    try {
      return await callMeta(() => metaGraph.listPhoneNumbers(app, token, wabaId))
    } catch (err) {
      if (err instanceof Error && graphErrorDetails(err) !== null) return err
      throw err
    }
  }

  async function inspect (
    { row }: Due, app: MetaApp, token: string
  ): Promise<TokenEnds & { type: string | null } | { reason: string }> {
    try {
      const inspected = await callMeta(() => metaGraph.inspectToken(app, token))
      const { expires_at = row.token_expires_at, data_access_ends_at = row.data_access_ends_at, type } = inspected
      return { expires_at, data_access_ends_at, type }
    } catch (err) {
      if (err instanceof MetaTokenInvalid) return { reason: reasonOf(err) }
      throw err
    }
  }

  /** Returns a valid token of the same app that lives longer, and its finding; null when Meta grants none. */
  async function extend (
    { row }: Due, app: MetaApp, token: string, { expires_at, type }: { expires_at: string | null, type: string | null }
  ): Promise<Pick<CheckResult, 'finding' | 'replacement'> | null> {
    try {
      const sixtyDays = type === 'SYSTEM_USER'
      const granted = await callMeta(() => metaGraph.extendToken(app, token, { sixtyDays }))
      const inspected = await callMeta(() => metaGraph.inspectToken(app, granted.access_token))
      const { expires_at: newExpiry = granted.expires_at, data_access_ends_at } = inspected
      const now = Date.now()
      if (timeLeft(newExpiry, now) <= timeLeft(expires_at, now)) return null
      return {
        finding: { valid: true, expires_at: newExpiry, data_access_ends_at },
        replacement: {
          sealed: vault.seal(granted.access_token, row.tenant_id, 'access_token'),
          expires_at: newExpiry
        }
      }
    } catch (err) {
      if (graphErrorDetails(err) === null) throw err
      log.info({ err, tenant_id: row.tenant_id }, 'a token that ends soon was not extended')
      return null
    }
  }

  function openToken ({ row, sealed }: Due): string {
    return vault.open(sealed, row.tenant_id, 'access_token')
  }
}

/** Returns why a token is invalid: Meta's code, such as `meta_190_460`, or `other_app` for the token of another app. */
export function reasonOf (err: unknown): string {
  const { meta_code: code, meta_subcode: subcode } = { meta_code: null, meta_subcode: null, ...graphErrorDetails(err) }
  if (code === 100) return 'other_app'
  return ['meta', code ?? 'invalid', subcode ?? []].flat().join('_')
}
