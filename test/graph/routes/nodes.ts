import type { Json } from '../errors.js'
import type { GraphState } from '../state.js'
import { openPhone, openWaba, showPhone, showWaba } from './objects.js'
import type { Call } from './tokens/auth.js'

/** `GET /{phone_number_id}` (Meta: WhatsApp, "Phone Numbers"). */
export function phone (state: GraphState, call: Call): Json {
  const { token, waba, phone } = openPhone(state, call)
  const fields = call.params.get('fields') ??
    'verified_name,display_phone_number,quality_rating,code_verification_status'
  return showPhone(phone, waba, token.app, fields)
}

/** `GET /{waba_id}` (Meta: WhatsApp, "Manage Accounts"). */
export function waba (state: GraphState, call: Call): Json {
  return showWaba(openWaba(state, call).waba, call.params.get('fields') ?? 'name')
}
