import { createHmac } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Json } from '../errors.js'
import type { App, GraphState } from '../state.js'

export interface DeliveryOptions {
  /** The URL, instead of the override or that of the app. */
  url?: string
  /** Repetitions after it was accepted: default 0. Meta does not guarantee exactly-once delivery. */
  duplicates?: number
  /** Milliseconds for one hour of Meta: default 10, so that seven days of retries end after 1.7 s. */
  hour_ms?: number
}

/** The URL, and the status of each answer; null without an answer. The last is 200 unless Meta gave up. */
export interface Delivery { url: string, statuses: Array<number | null> }

// Hours. Meta retries immediately, then less and less often, for seven days; the exact steps are our assumption.
const RETRY_AFTER_H = [0, 1, 2, 4, 8, 16, 32, 48, 56]
// Our assumption.
const ANSWER_LIMIT_MS = 10_000

// Meta: WhatsApp, "Webhooks: Override". All other fields go to the URL of the app.
const OVERRIDDEN = [
  'messages', 'message_echoes', 'calls', 'consumer_profile', 'messaging_handovers', 'group_lifecycle_update',
  'group_participants_update', 'group_settings_update', 'group_status_update', 'smb_message_echoes',
  'smb_app_state_sync', 'history', 'account_settings_update'
]

/**
 * Delivers a webhook as Meta does: non-ASCII characters are escaped, and the bytes are signed with the app's secret. It
 * is retried until the answer is 200. Its first change decides the URL, even without a subscription.
 * @throws for an unknown app, and for an app without a URL
 */
export async function deliver (
  state: GraphState,
  appId: string,
  body: Json,
  options: DeliveryOptions,
  signal: AbortSignal
): Promise<Delivery> {
  const app = state.app(appId)
  const url = options.url ?? addressOf(state, app, body) ?? app.callback_url
  if (url === null) throw new Error(`the app ${appId} has no callback_url`)
  const bytes = encode(body)
  const headers = {
    'content-type': 'application/json',
    'x-hub-signature-256': `sha256=${createHmac('sha256', app.app_secret).update(bytes).digest('hex')}`
  }
  const post = async (): Promise<number | null> => {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_LIMIT_MS)])
    const response = await fetch(url, {
      method: 'POST',
      redirect: 'manual',
      headers,
      body: bytes,
      signal: limit
    }).catch(() => null)
    await response?.body?.cancel()
    return response?.status ?? null
  }

  const statuses = [await post()]
  for (const hours of RETRY_AFTER_H) {
    if (statuses.at(-1) === 200) break
    await delay(hours * (options.hour_ms ?? 10), undefined, { signal })
    statuses.push(await post())
  }
  const again = statuses.at(-1) === 200 ? options.duplicates ?? 0 : 0
  for (let left = again; left > 0; left--) statuses.push(await post())
  return { url, statuses }
}

/** Meta signs JSON in which every non-ASCII character is escaped, in lower-case hex. */
function encode (body: Json): Buffer {
  return Buffer.from(
    JSON.stringify(body).replace(/[\u0080-\uffff]/g, unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
  )
}

/** The override for the subject of a webhook: that of the phone number, else that of the WABA. */
function addressOf (state: GraphState, { app_id: appId }: App, body: Json): string | undefined {
  const entry = Object(Object(body.entry)[0])
  const change = Object(Object(entry.changes)[0])
  if (!OVERRIDDEN.includes(change.field)) return undefined
  const waba = state.wabas.get(entry.id)
  const phoneId = Object(Object(change.value).metadata).phone_number_id
  const phone = waba?.phones.find(({ id }) => id === phoneId)
  return phone?.override?.url ?? waba?.subscriptions.get(appId)?.override?.url
}
