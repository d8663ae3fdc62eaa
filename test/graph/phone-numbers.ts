import { authenticate, type Call } from './auth.js'
import { GraphError, type Json } from './errors.js'
import type { GraphState, Phone, Token, Waba } from './state.js'

const DEFAULT_FIELDS = 'verified_name,code_verification_status,display_phone_number,quality_rating,platform_type,throughput,webhook_configuration,last_onboarded_time'

// Since 2026 some tokens of Embedded Signup carry the second in place of the first (chatwoot #14690, #14697).
const NEEDED = ['whatsapp_business_management', 'whatsapp_business_manage_events']

/** `GET /{waba_id}/phone_numbers`: one page of the phones, to a token that sees the WABA and has the permission. */
export function phoneNumbers (state: GraphState, call: Call): Json {
  const { text, token } = authenticate(state, call)
  const waba = state.wabas.get(call.id)
  // One answer for "not there" and "not yours", so that nobody learns which ids exist.
  if (!waba || !sees(token, waba)) {
    throw new GraphError(400, 100, `Unsupported get request. Object with ID '${call.id}' does not exist, cannot be loaded due to missing permissions, or does not support this operation. Please read the Graph API documentation at https://developers.facebook.com/docs/graph-api`, { type: 'GraphMethodException', error_subcode: 33 })
  }
  if (!NEEDED.some(scope => token.scopes.includes(scope))) {
    throw new GraphError(403, 200, `(#200) Requires ${NEEDED[0]} permission to manage the object`)
  }
  return page(waba.phones, call, text)
}

function sees (token: Token, waba: Waba): boolean {
  return waba.app_ids.includes(token.app.app_id) && (token.waba_ids?.includes(waba.id) ?? true)
}

function page (phones: Phone[], { params, url }: Call, text: string): Json {
  const limit = Number(params.get('limit') ?? 25)
  if (!Number.isInteger(limit) || limit < 1 || limit > 100) {
    throw new GraphError(400, 100, '(#100) Param limit must be an integer from 1 to 100')
  }
  const after = params.get('after')
  const start = after === null ? 0 : phones.findIndex(phone => cursor(phone) === after) + 1
  if (after !== null && start === 0) throw new GraphError(400, 100, '(#100) Invalid cursor')

  const shown = phones.slice(start, start + limit)
  const first = shown[0]
  const last = shown.at(-1)
  if (!first || !last) return { data: [] }
  const paging: Json = { cursors: { before: cursor(first), after: cursor(last) } }
  if (start + limit < phones.length) {
    // As Graph does it: the token stands in the link however it was sent, the proof is left out.
    const next = new URLSearchParams(params)
    next.delete('appsecret_proof')
    next.set('access_token', text)
    next.set('limit', String(limit))
    next.set('after', cursor(last))
    paging.next = `${url}?${next}`
  }
  const fields = (params.get('fields') ?? DEFAULT_FIELDS).split(',')
  return { data: shown.map(phone => ({ ...pick(phone, fields), id: phone.id })), paging }
}

const cursor = (phone: Phone) => Buffer.from(phone.id).toString('base64url')

function pick (phone: Phone, fields: string[]): Json {
  return Object.fromEntries(fields.map(field => [field, phone[field]]))
}
