import { GraphError, type Json } from '../../errors.js'
import type { GraphState, Token } from '../../state.js'
import { authenticate, findToken, tokenErrorOf, type Call } from './auth.js'

/** `GET /debug_token`: an invalid input token is answered with `is_valid: false`; one of another app is an error. */
export function debugToken (state: GraphState, call: Call): Json {
  const viewer = authenticate(state, call).token
  const input = call.params.get('input_token')
  if (!input) throw new GraphError(400, 100, '(#100) The parameter input_token is required')
  const token = findToken(state, input)
  if (token instanceof GraphError) return { data: { ...invalid(token), scopes: [] } }
  if (token.app !== viewer.app) {
    throw new GraphError(400, 100, '(#100) The App_id in the input_token did not match the Viewing App')
  }
  const tokenError = tokenErrorOf(token)
  return { data: { ...describe(token), ...(tokenError ? invalid(tokenError) : { is_valid: true }) } }
}

function invalid (reason: GraphError): Json {
  // The key is `subcode` here, not `error_subcode`.
  return { is_valid: false, error: { code: reason.code, message: reason.message, subcode: reason.extra.error_subcode } }
}

function describe (token: Token): Json {
  const base = {
    app_id: token.app.app_id,
    type: token.type,
    application: 'Stand-in',
    expires_at: token.expires_at,
    scopes: token.scopes
  }
  if (token.type === 'APP') return base
  return {
    ...base,
    data_access_expires_at: token.data_access_expires_at ?? 0,
    issued_at: token.issued_at,
    user_id: token.user_id,
    // Without target_ids a scope is not restricted to some assets.
    granular_scopes: token.scopes.filter(scope => scope.startsWith('whatsapp_'))
      .map(scope => ({ scope, target_ids: token.waba_ids ?? undefined }))
  }
}
