import { GraphError, type Json } from '../../errors.js'
import type { GraphState, Phone } from '../../state.js'
import { openWaba, showPhone } from '../objects.js'
import type { Call } from '../tokens/auth.js'

const DEFAULT_FIELDS = 'verified_name,code_verification_status,display_phone_number,quality_rating,platform_type,' +
  'throughput,webhook_configuration,last_onboarded_time'

/** `GET /{waba_id}/phone_numbers`: one page of the numbers, for a token that sees the WABA and has the permission. */
export function phoneNumbers (state: GraphState, call: Call): Json {
  const { text, token, waba } = openWaba(state, call)
  const { shown, paging } = page(waba.phones, call, text)
  const fields = call.params.get('fields') ?? DEFAULT_FIELDS
  return { data: shown.map(phone => showPhone(phone, waba, token.app, fields)), paging }
}

function page (phones: Phone[], { params, url }: Call, text: string): { shown: Phone[], paging?: Json } {
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
  if (!first || !last) return { shown }
  const paging: Json = { cursors: { before: cursor(first), after: cursor(last) } }
  if (start + limit < phones.length) {
    // As at Graph, the link contains the token, however it was sent, but not the proof.
    const next = new URLSearchParams(params)
    next.delete('appsecret_proof')
    next.set('access_token', text)
    next.set('limit', String(limit))
    next.set('after', cursor(last))
    paging.next = `${url}?${next}`
  }
  return { shown, paging }
}

const cursor = (phone: Phone) => Buffer.from(phone.id).toString('base64url')
