import { GraphError, tokenRefused, type Json } from '../../errors.js'
import type { GraphState } from '../../state.js'
import { authenticate, type Call } from './auth.js'

/**
 * `GET /me`: the owner of a token. `fields=client_business_id` is answered only for the token of a customer's system
 * user.
 */
export function me (state: GraphState, call: Call): Json {
  if (call.bearer === undefined && !call.params.get('access_token')) throw noActiveToken()
  const { token } = authenticate(state, call)
  if (token.type === 'APP') throw noActiveToken()
  const fields = (call.params.get('fields') ?? 'name').split(',')
  if (fields.includes('client_business_id') && token.type === 'USER') throw tokenRefused()
  const known: Json = { name: 'Stand-in', client_business_id: token.business_id }
  return { ...Object.fromEntries(fields.map(field => [field, known[field]])), id: token.user_id }
}

/** The error for a path that Graph interprets as a query about the current user. */
export function noActiveToken (): GraphError {
  return new GraphError(400, 2500, 'An active access token must be used to query information about the current user.')
}
