import { MetaTokenInvalid, MetaUnexpectedReply } from '../errors.js'
import { isoFromMs } from '../schemas/timestamps.js'
import { tokenAdvice } from './advice.js'
import type { GraphCalls } from './calls.js'
import { GrantedToken, InspectedToken } from './replies.js'
import type { Call, MetaApp } from './types.js'

const LAST_SECOND_OF_9999 = 253402300799

/** The scopes that name single WABAs. Meta has issued tokens with the last one in place of the first. */
const WABA_SCOPES = ['whatsapp_business_management', 'whatsapp_business_messaging', 'whatsapp_business_manage_events']

/** The calls that grant, extend and inspect tokens. Each sends its code or token once. */
export function createOauthCalls ({ send, assertUnblocked, failCall }: GraphCalls) {
  return { assertExchangeUnblocked, exchangeCode, extendToken, inspectToken }

  /** Throws MetaRateLimited while Meta takes no code for the app. */
  function assertExchangeUnblocked (app: MetaApp): void {
    assertUnblocked({ name: 'exchange_code', subject: 'code', app })
  }

  /**
   * Exchanges the code of a Meta login for an access token. A code works once: after a failure a new login is needed,
   * unless nothing was sent (`graphErrorDetails`).
   * Source: developers.facebook.com/documentation/facebook-login/guides/advanced/manual-flow
   *
   * @param login.redirect_uri the login dialog's, byte by byte; undefined for a code of the JavaScript SDK
   * @returns the token and when it expires by Meta's `expires_in` (ISO 8601 UTC; null: never, or Meta did not say)
   * @throws MetaCodeUsed, MetaCodeExpired, MetaCodeInvalid, MetaRedirectMismatch, MetaAppRejected, MetaRateLimited,
   * MetaPermissionMissing, MetaUnavailable and MetaUnexpectedReply for a refusal; MetaUnavailable when nothing was
   * sent; MetaExchangeUnknown when the code may be spent
   */
  async function exchangeCode (app: MetaApp, login: { code: string, redirect_uri?: string | undefined }) {
    const { code, redirect_uri } = login
    const grant: Record<string, string> = redirect_uri === undefined ? { code } : { code, redirect_uri }
    // Meta documents a GET. The form keeps the secret and the code out of the URL, which proxies log.
    return await obtainToken({ name: 'exchange_code', subject: 'code' }, app, code, grant)
  }

  /**
   * Exchanges a valid token for one that lives longer; the old one stays valid until its own expiry.
   * Sources: developers.facebook.com/documentation/facebook-login/guides/access-tokens/get-long-lived and
   * developers.facebook.com/docs/business-management-apis/system-users/install-apps-and-generate-tokens
   *
   * @param how.sixtyDays for a system user's token that expires
   * @returns as `exchangeCode`
   * @throws MetaTokenInvalid, MetaPermissionMissing, MetaAppRejected, MetaRateLimited, MetaUnavailable, MetaTimeout,
   * MetaUnexpectedReply
   */
  async function extendToken (app: MetaApp, token: string, { sixtyDays }: { sixtyDays: boolean }) {
    const kind: Record<string, string> = sixtyDays ? { set_token_expires_in_60_days: 'true' } : {}
    const grant = { grant_type: 'fb_exchange_token', fb_exchange_token: token, ...kind }
    return await obtainToken({ name: 'extend_token', subject: 'extend' }, app, token, grant)
  }

  async function obtainToken (
    call: Call, app: MetaApp, credential: string, grant: Record<string, string>
  ): Promise<{ access_token: string, expires_at: string | null }> {
    const form = { client_id: app.id, client_secret: app.secret, ...grant }
    const request = { ...call, app, credential, method: 'POST' as const, path: 'oauth/access_token', form }
    const { access_token, expires_in: seconds } = await send(request, GrantedToken)
    return { access_token, expires_at: seconds ? expiryAt(Date.now() / 1000 + seconds) : null }
  }

  /**
   * Checks that a token is valid and was issued for the app.
   * Source: developers.facebook.com/docs/graph-api/reference/debug_token
   *
   * @returns when the token expires and when its access to data ends (ISO 8601 UTC; null: never; undefined: Meta did
   * not say), its type such as SYSTEM_USER, its scopes, and the WABAs of these scopes in no particular order
   * @throws MetaTokenInvalid, MetaAppRejected, MetaRateLimited, MetaUnavailable, MetaTimeout, MetaUnexpectedReply
   */
  async function inspectToken (app: MetaApp, token: string) {
    const call: Call = { name: 'debug_token', subject: 'app' }
    const appToken = `${app.id}|${app.secret}`
    const request = { method: 'GET' as const, path: 'debug_token', query: { input_token: token } }
    const { data } = await send({ ...call, ...request, app, token: appToken, credential: token }, InspectedToken)
    if (data.is_valid && data.app_id === null) {
      throw failCall(call, { throws: MetaUnexpectedReply }, { sent: true, status: 200 })
    }
    if (!data.is_valid || data.app_id !== app.id) {
      const { code, subcode } = data.error ?? {}
      const context = { sent: true, status: 200, meta_code: code, meta_subcode: subcode }
      throw failCall(call, { throws: MetaTokenInvalid, advice: tokenAdvice[subcode ?? NaN] }, context)
    }
    const { type, scopes, granular_scopes: granted, expires_at: expiresAt } = data
    const wabaIds = granted.flatMap(({ scope, target_ids }) => WABA_SCOPES.includes(scope) ? target_ids : [])
    return {
      expires_at: expiresAt === null ? undefined : expiryAt(expiresAt),
      data_access_ends_at: data.data_access_expires_at == null ? undefined : expiryAt(data.data_access_expires_at),
      type,
      scopes,
      waba_ids: [...new Set(wabaIds)]
    }
  }
}

/** Unix seconds as ISO 8601 UTC; null for 0, Meta's "never", and for years above 9999. */
function expiryAt (seconds: number): string | null {
  return seconds === 0 || seconds > LAST_SECOND_OF_9999 ? null : isoFromMs(seconds * 1000)
}
