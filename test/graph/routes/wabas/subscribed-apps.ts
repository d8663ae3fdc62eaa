import type { Json } from '../../errors.js'
import type { GraphState } from '../../state.js'
import { assertMaySetCallback } from '../../webhooks/callback.js'
import { openWaba } from '../objects.js'
import type { Call } from '../tokens/auth.js'

/** `POST /{waba_id}/subscribed_apps` without a body: subscribes the app, and removes an override. */
export function subscribe (state: GraphState, call: Call): Json {
  const { token, waba } = openWaba(state, call)
  waba.subscriptions.set(token.app.app_id, {})
  return { success: true }
}

/**
 * The same with `override_callback_uri` and `verify_token`: sets the override once the callback has verified itself.
 */
export async function override (state: GraphState, call: Call): Promise<Json> {
  const { token: { app }, waba } = openWaba(state, call)
  const wanted = {
    url: call.params.get('override_callback_uri') ?? '',
    verify_token: call.params.get('verify_token') ?? ''
  }
  await assertMaySetCallback(app, waba, wanted)
  waba.subscriptions.set(app.app_id, { override: wanted })
  return { success: true }
}

/** `GET /{waba_id}/subscribed_apps`: all subscribed apps, for any caller. */
export function subscriptions (state: GraphState, call: Call): Json {
  const data = [...openWaba(state, call).waba.subscriptions].map(([id, { override }]) => ({
    whatsapp_business_api_data: { id, name: 'Stand-in', link: 'https://www.facebook.com/games/?app_id=' + id },
    override_callback_uri: override?.url
  }))
  return { data }
}

/** `DELETE /{waba_id}/subscribed_apps`: unsubscribes the calling app from this WABA. */
export function unsubscribe (state: GraphState, call: Call): Json {
  const { token, waba } = openWaba(state, call)
  waba.subscriptions.delete(token.app.app_id)
  return { success: true }
}
