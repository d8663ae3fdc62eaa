import type { Test } from 'tap'
import { startWithClient } from '../http/client.js'

/** The app that the tests of the control endpoint add by themselves. */
export const APP = { app_id: '42', app_secret: 'secret', callback_url: 'https://platform.example/' }
export const ours = { client_id: APP.app_id, client_secret: APP.app_secret }
/** The answer of a control request without a result. */
export const done = { status: 200, body: {} }

/**
 * Starts the stand-in until the test ends. `control` sends a request to the control endpoint and returns its status and
 * body; `debug` sends a token to `debug_token` with the credentials of `APP`.
 */
export async function startWithControl (t: Test) {
  const { graph, raw } = await startWithClient(t)

  async function control (method: string, path: string, json?: unknown) {
    const response = await fetch(`${graph.url}/_control/${path}`, {
      method,
      ...(json !== undefined && { body: JSON.stringify(json) })
    })
    return { status: response.status, body: JSON.parse(await response.text()) }
  }

  const debug = (token: string) => raw('/v26.0/debug_token', { input_token: token, access_token: '42|secret' })
  return { graph, raw, control, debug }
}
