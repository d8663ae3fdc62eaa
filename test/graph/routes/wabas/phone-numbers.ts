import type { Json } from '../../errors.js'
import type { GraphState } from '../../state.js'
import { page } from '../page.js'
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
