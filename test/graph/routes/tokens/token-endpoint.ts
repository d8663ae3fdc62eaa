import { GraphError, tokenRefused, type Json } from '../../errors.js'
import { now, TOKEN_LIFETIME_S, type App, type Code, type GraphState } from '../../state.js'
import { findToken, tokenErrorOf, type Call } from './auth.js'

// Meta: WhatsApp, "Embedded Signup: Implementation"
const CODE_LIFETIME_S = 30

/**
 * `/oauth/access_token`: exchanges a code, or the app's own credentials, for a token. Meta documents neither the order
 * of the checks nor whether a failed exchange uses the code. Here only a successful one does.
 */
export function accessToken (state: GraphState, { params }: Call): Json {
  const app = authenticateApp(state, params)
  switch (params.get('grant_type') ?? 'authorization_code') {
    case 'client_credentials': return { access_token: app.app_token, token_type: 'bearer' }
    case 'authorization_code': return exchange(state, app, params)
    default: throw new GraphError(400, 100, 'Invalid grant_type')
  }
}

/**
 * `/oauth/access_token` with `grant_type=fb_exchange_token`: issues another token of the same grant for 60 days; the
 * old one stays valid. Meta does not document the refusal of a token that it does not extend; here it is error 190.
 */
export function extend (state: GraphState, { params }: Call): Json {
  const app = authenticateApp(state, params)
  const old = findToken(state, params.get('fb_exchange_token') ?? '')
  if (old instanceof GraphError) throw old
  const tokenError = tokenErrorOf(old)
  if (tokenError) throw tokenError
  if (old.app !== app || old.type === 'APP' || old.extendable === false) throw tokenRefused()
  // A token that never expires stays so unless the caller requests 60 days.
  const neverExpires = old.expires_at === 0 && params.get('set_token_expires_in_60_days') !== 'true'
  const text = state.mint({ ...old, issued_at: now(), expires_at: neverExpires ? 0 : now() + TOKEN_LIFETIME_S })
  return { access_token: text, token_type: 'bearer', expires_in: neverExpires ? undefined : TOKEN_LIFETIME_S }
}

function authenticateApp (state: GraphState, params: URLSearchParams): App {
  const appId = params.get('client_id')
  if (!appId) throw new GraphError(400, 101, 'Missing client_id parameter.')
  const app = state.apps.get(appId)
  if (!app) throw new GraphError(400, 101, 'Error validating application. Invalid application ID.')
  if (params.get('client_secret') !== app.app_secret) throw new GraphError(400, 1, 'Error validating client secret.')
  return app
}

function exchange (state: GraphState, app: App, params: URLSearchParams): Json {
  const text = params.get('code')
  if (!text) throw new GraphError(400, 1, 'Missing authorization code')
  const code = state.codes.get(text)
  if (code?.app !== app) throw new GraphError(400, 100, 'Invalid verification code format.')
  if (code.used) throw new GraphError(400, 100, 'This authorization code has been used.', { error_subcode: 36009 })
  if (now() - code.issued_at >= CODE_LIFETIME_S) {
    throw new GraphError(400, 100, 'This authorization code has expired.', { error_subcode: 36007 })
  }
  checkRedirect(app, code, params.get('redirect_uri') ?? '')
  code.used = true
  const { expires_in: lifetime = TOKEN_LIFETIME_S } = code.grant
  return {
    access_token: state.issueToken(code.grant),
    token_type: 'bearer',
    // A token that never expires has no expires_in, and JSON has no undefined.
    expires_in: lifetime === 0 ? undefined : lifetime
  }
}

function checkRedirect (app: App, code: Code, sent: string): void {
  // An empty redirect_uri counts as none: SDKs send it so with codes of the JavaScript SDK.
  if (sent === (code.redirect_uri ?? '')) return
  if (sent === '') throw new GraphError(400, 191, 'Missing redirect_uri parameter.')
  if (!URL.canParse(sent)) throw new GraphError(400, 191, "redirect_uri isn't an absolute URI. Check RFC 3986.")
  const { host } = new URL(sent)
  if (app.redirect_uris.length > 0 && !app.redirect_uris.some(uri => new URL(uri).host === host)) {
    throw new GraphError(
      400,
      191,
      "Can't load URL: The domain of this URL isn't included in the app's domains. To be able to load this URL, add " +
        'all domains and subdomains of your app to the App Domains field in your app settings.'
    )
  }
  throw new GraphError(
    400,
    100,
    'Error validating verification code. Please make sure your redirect_uri is identical to the one you used in the ' +
      'OAuth dialog request',
    { error_subcode: 36008 }
  )
}
