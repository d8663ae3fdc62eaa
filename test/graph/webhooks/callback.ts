import { randomInt } from 'node:crypto'
import { callbackRefused, GraphError } from '../errors.js'
import { isLoopback } from '../http/loopback.js'
import type { App, Override, Waba } from '../state.js'

// chatwoot #12488: Meta waits about this long for the callback.
const VERIFY_LIMIT_MS = 6000
const MAX_URL_LENGTH = 200

/** Throws if the app may not set this callback for a WABA or its phone number. */
export async function assertMaySetCallback (app: App, waba: Waba, wanted: Override): Promise<void> {
  assertValid(wanted)
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

// Meta documents the limits, but not the messages of their errors.
function assertValid ({ url, verify_token: verifyToken }: Override): void {
  const isAllowed = /^https:/i.test(url) ? URL.canParse(url) : /^http:/i.test(url) && isLoopback(url)
  if (!isAllowed || url.length > MAX_URL_LENGTH) {
    throw new GraphError(
      400,
      100,
      `(#100) Param override_callback_uri must be a valid https URI of at most ${MAX_URL_LENGTH} characters`
    )
  }
  if (verifyToken === '') throw new GraphError(400, 100, '(#100) The parameter verify_token is required')
}

/** Verifies the callback as Meta does; returns the failure, or null. */
async function verify ({ url, verify_token: verifyToken }: Override): Promise<string | null> {
  const verification = new URL(url)
  const challenge = String(randomInt(1e9, 2e9))
  verification.searchParams.append('hub.mode', 'subscribe')
  verification.searchParams.append('hub.challenge', challenge)
  verification.searchParams.append('hub.verify_token', verifyToken)
  try {
    const response = await fetch(verification, { redirect: 'manual', signal: AbortSignal.timeout(VERIFY_LIMIT_MS) })
    const body = await response.text()
    if (response.status !== 200) return `HTTP Status Code = ${response.status}; HTTP Message = ${response.statusText}`
    return body === challenge ? null : 'Response does not match challenge'
  } catch (error) {
    return error instanceof Error && error.name === 'TimeoutError'
      ? `curl_errno = 28; curl_error = Operation timed out after ${VERIFY_LIMIT_MS} milliseconds; ` +
        'HTTP Status Code = 0; HTTP Message = '
      : 'curl_errno = 7; curl_error = Failed to connect; HTTP Status Code = 0; HTTP Message = '
  }
}
