import { GraphError, type Json } from '../errors.js'
import type { App, GraphState, Phone, Token, Waba } from '../state.js'
import { authenticate, type Call } from './tokens/auth.js'

// Since 2026 some tokens of Embedded Signup have the second instead of the first (chatwoot #14690, #14697).
const NEEDED = ['whatsapp_business_management', 'whatsapp_business_manage_events']

/**
 * The WABA in the path, for a token that sees it and has the permission.
 * @throws the GraphError of Graph otherwise
 */
export function openWaba (state: GraphState, call: Call): { text: string, token: Token, waba: Waba } {
  const { text, token } = authenticate(state, call)
  const waba = state.wabas.get(call.id)
  if (!waba || !sees(token, waba)) throw notThere(call)
  mayManage(token)
  return { text, token, waba }
}

/** The phone number in the path, and its WABA, likewise; `permit` throws if the token lacks the permission. */
export function openPhone (
  state: GraphState,
  call: Call,
  permit = mayManage
): { token: Token, waba: Waba, phone: Phone } {
  const { token } = authenticate(state, call)
  for (const waba of state.wabas.values()) {
    const phone = waba.phones.find(({ id }) => id === call.id)
    if (phone && sees(token, waba)) {
      permit(token)
      return { token, waba, phone }
    }
  }
  throw notThere(call)
}

function sees (token: Token, waba: Waba): boolean {
  return waba.app_ids.includes(token.app.app_id) && (token.waba_ids?.includes(waba.id) ?? true)
}

function mayManage (token: Token): void {
  if (NEEDED.some(scope => token.scopes.includes(scope))) return
  throw new GraphError(403, 200, `(#200) Requires ${NEEDED[0]} permission to manage the object`)
}

/** Throws if the token may not send messages. */
export function maySend (token: Token): void {
  if (token.scopes.includes('whatsapp_business_messaging')) return
  throw new GraphError(
    403,
    200,
    '(#200) You do not have the necessary permissions to send messages on behalf of this WhatsApp Business Account'
  )
}

// One answer for "missing" and "foreign": it reveals no existing ids.
export function notThere ({ method, id }: Call): GraphError {
  return new GraphError(
    400,
    100,
    `Unsupported ${method.toLowerCase()} request. Object with ID '${id}' does not exist, cannot be loaded due to ` +
      'missing permissions, or does not support this operation. Please read the Graph API documentation at ' +
      'https://developers.facebook.com/docs/graph-api',
    { type: 'GraphMethodException', error_subcode: 33 }
  )
}

/** The requested fields of a phone number (comma-separated) as `app` sees them, and its id. */
export function showPhone (
  { id, pin, registered, verified, attempts, override, ...shown }: Phone,
  waba: Waba,
  app: App,
  fields: string
): Json {
  return pick(fields, {
    code_verification_status: verified ? 'VERIFIED' : 'NOT_VERIFIED',
    status: registered ? 'CONNECTED' : 'PENDING',
    webhook_configuration: configuration(
      override?.url,
      waba.subscriptions.get(app.app_id)?.override?.url,
      app.callback_url
    ),
    ...shown,
    id
  })
}

/** The requested fields of a WABA (comma-separated), and its id. */
export function showWaba ({ id, app_ids: _, phones: __, subscriptions: ___, ...shown }: Waba, fields: string): Json {
  return pick(fields, { ...shown, id })
}

// Meta: WhatsApp, "Webhooks: Override". The most specific one applies.
function configuration (phone?: string, waba?: string, application?: string | null): Json | undefined {
  const set = Object.entries({
    phone_number: phone,
    whatsapp_business_account: waba,
    application
  }).filter(([, url]) => url)
  return set.length > 0 ? Object.fromEntries(set) : undefined
}

function pick (fields: string, from: Json): Json {
  return Object.fromEntries([...fields.split(','), 'id'].map(field => [field, from[field]]))
}
