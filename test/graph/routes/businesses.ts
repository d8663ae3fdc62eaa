import { GraphError, type Json } from '../errors.js'
import type { GraphState, Token } from '../state.js'
import { notThere } from './objects.js'
import { page } from './page.js'
import { authenticate, type Call } from './tokens/auth.js'

/** `GET /me/businesses`: the businesses that the user of a token works for. */
export function businesses (state: GraphState, call: Call): Json {
  const { text, token } = mayManageBusinesses(state, call)
  const { shown, paging } = page((token.business_ids ?? []).map((id) => ({ id })), call, text)
  return { data: shown, paging }
}

/** `GET /{business}/owned_whatsapp_business_accounts` and `/{business}/client_whatsapp_business_accounts`. */
export function businessAccounts (state: GraphState, call: Call): Json {
  const { text, token } = mayManageBusinesses(state, call)
  const business = state.businesses.get(call.id)
  if (!business || !token.business_ids?.includes(call.id)) throw notThere(call)
  const isOwned = call.url.endsWith('/owned_whatsapp_business_accounts')
  const ids = isOwned ? business.owned_waba_ids : business.client_waba_ids
  const { shown, paging } = page(ids.map((id) => ({ id })), call, text)
  return { data: shown, paging }
}

function mayManageBusinesses (state: GraphState, call: Call): { text: string, token: Token } {
  const caller = authenticate(state, call)
  if (caller.token.scopes.includes('business_management')) return caller
  throw new GraphError(403, 200, '(#200) Requires business_management permission to manage the object')
}
