import { randomInt } from 'node:crypto'
import type { Call } from './auth.js'
import { GraphError, type Json } from './errors.js'
import { isLoopback } from './loopback.js'
import { openWaba } from './objects.js'
import type { App, GraphState, Override, Waba } from './state.js'

// chatwoot #12488: about what Meta waits for the callback.
const VERIFY_LIMIT_MS = 6000
const MAX_URL_LENGTH = 200

/** `POST /{waba_id}/subscribed_apps` with nothing in it: webhooks of the WABA go to the app; an override is gone. */
export function subscribe (state: GraphState, call: Call): Json {
  const { token, waba } = openWaba(state, call)
  waba.subscriptions.set(token.app.app_id, {})
  return { success: true }
}

/**
 * The same with `override_callback_uri` and `verify_token`: they go there, once that address has answered as it should.
 */
export async function override (state: GraphState, call: Call): Promise<Json> {
  const { token: { app }, waba } = openWaba(state, call)
  const wanted = {
    url: call.params.get('override_callback_uri') ?? '',
    verify_token: call.params.get('verify_token') ?? ''
  }
  await prove(app, waba, wanted)
  waba.subscriptions.set(app.app_id, { override: wanted })
  return { success: true }
}

/** Throws what keeps an app from having the webhooks of a WABA, or of a phone in it, sent to an address. */
export async function prove (app: App, waba: Waba, wanted: Override): Promise<void> {
  check(wanted)
  if (app.callback_url === null || !waba.subscriptions.has(app.app_id)) {
    throw new GraphError(
      400,
      100,
      '(#100) Before override the current callback uri, your app must be subscribed to receive messages for WhatsApp ' +
        'Business Account'
    )
  }
  const failure = await verify(wanted)
  if (failure !== null) throw callbackRefused(failure)
}

/** `GET /{waba_id}/subscribed_apps`: all the apps, whoever asks. */
export function subscriptions (state: GraphState, call: Call): Json {
  const data = [...openWaba(state, call).waba.subscriptions].map(([id, { override }]) => ({
    whatsapp_business_api_data: { id, name: 'Stand-in', link: 'https://www.facebook.com/games/?app_id=' + id },
    override_callback_uri: override?.url
  }))
  return { data }
}

/** `DELETE /{waba_id}/subscribed_apps`: the app that calls gets no more webhooks of this WABA. */
export function unsubscribe (state: GraphState, call: Call): Json {
  const { token, waba } = openWaba(state, call)
  waba.subscriptions.delete(token.app.app_id)
  return { success: true }
}

/** Error 2200: what was wrong with the answer of a callback, as §6.4 of the fact sheet quotes it. */
export function callbackRefused (failure = 'HTTP Status Code = 403; HTTP Message = Forbidden'): GraphError {
  return new GraphError(400, 2200, `(#2200) Callback verification failed with the following errors: ${failure}`)
}

// Meta documents the limits; its words for breaking them are unknown.
function check ({ url, verify_token: verifyToken }: Override): void {
  const open = /^https:/i.test(url) ? URL.canParse(url) : /^http:/i.test(url) && isLoopback(url)
  if (!open || url.length > MAX_URL_LENGTH) {
    throw new GraphError(
      400,
      100,
      `(#100) Param override_callback_uri must be a valid https URI of at most ${MAX_URL_LENGTH} characters`
    )
  }
  if (verifyToken === '') throw new GraphError(400, 100, '(#100) The parameter verify_token is required')
}

/** Asks the address as Meta does; returns what is wrong with its answer, or null. */
async function verify ({ url, verify_token: verifyToken }: Override): Promise<string | null> {
  const asked = new URL(url)
  const challenge = String(randomInt(1e9, 2e9))
  asked.searchParams.append('hub.mode', 'subscribe')
  asked.searchParams.append('hub.challenge', challenge)
  asked.searchParams.append('hub.verify_token', verifyToken)
  try {
    const response = await fetch(asked, { redirect: 'manual', signal: AbortSignal.timeout(VERIFY_LIMIT_MS) })
    const body = await response.text()
    if (response.status !== 200) return `HTTP Status Code = ${response.status}; HTTP Message = ${response.statusText}`
    return body === challenge ? null : 'Response does not match challenge'
  } catch (error) {
    return error instanceof Error && error.name === 'TimeoutError'
      ? `curl_errno = 28; curl_error = Operation timed out after ${VERIFY_LIMIT_MS} milliseconds; HTTP Status Code = 0; HTTP Message = `
      : 'curl_errno = 7; curl_error = Failed to connect; HTTP Status Code = 0; HTTP Message = '
  }
}
