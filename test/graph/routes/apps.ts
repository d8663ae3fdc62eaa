import { GraphError, type Json } from '../errors.js'
import type { App, GraphState } from '../state.js'
import { notThere } from './objects.js'
import { authenticate, type Call } from './tokens/auth.js'

/** `GET /{app_id}` for a token of the app (Meta: Graph API, "Application"). */
export function app (state: GraphState, call: Call): Json {
  const { token } = authenticate(state, call)
  if (token.app.app_id !== call.id) throw notThere(call)
  return { link: `https://www.facebook.com/games/?app_id=${call.id}`, name: 'Stand-in', id: call.id }
}

/** `GET /{app_id}/subscriptions`, the app's own webhooks, for the token of the app (Meta: "App Subscriptions"). */
export function appSubscriptions (state: GraphState, call: Call): Json {
  const { token } = authenticate(state, call)
  if (token.app.app_id !== call.id) throw notThere(call)
  if (token.type !== 'APP') {
    throw new GraphError(400, 15, '(#15) This method must be called with an app access_token.')
  }
  return { data: subscriptionsOf(token.app) }
}

function subscriptionsOf ({ callback_url, webhook_active, webhook_fields }: App): Json[] {
  if (callback_url === null) return []
  const fields = webhook_fields.map((name) => ({ name, version: 'v26.0' }))
  return [{ object: 'whatsapp_business_account', callback_url, active: webhook_active, fields }]
}
