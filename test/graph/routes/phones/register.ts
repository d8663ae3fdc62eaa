import { GraphError, onBusinessApp, registerRefused, type Json } from '../../errors.js'
import { now, type GraphState, type Phone } from '../../state.js'
import { openPhone } from '../objects.js'
import type { Call } from '../tokens/auth.js'

// Meta: WhatsApp, "Register API": ten requests per number in 72 hours.
const MAX_ATTEMPTS = 10
const WINDOW_S = 72 * 3600

/** `POST /{phone_number_id}/register`: sets the PIN of a number without one; otherwise the PIN must match. */
export function register (state: GraphState, call: Call): Json {
  const { phone } = openPhone(state, call)
  if (call.params.get('messaging_product') !== 'whatsapp') {
    throw new GraphError(400, 100, '(#100) The parameter messaging_product is required.')
  }
  const pin = pinIn(call)
  if (phone.is_on_biz_app) throw onBusinessApp()
  count(phone)
  if (!phone.verified) throw registerRefused(133006)
  if (phone.pin !== null && phone.pin !== pin) throw registerRefused(133005)
  phone.pin = pin
  phone.registered = true
  return { success: true }
}

/** `POST /{phone_number_id}/deregister`; counts towards the same limit as registrations. */
export function deregister (state: GraphState, call: Call): Json {
  const { phone } = openPhone(state, call)
  if (phone.is_on_biz_app) throw onBusinessApp()
  count(phone)
  if (!phone.registered) throw registerRefused(133010)
  phone.registered = false
  return { success: true }
}

/** The PIN that a call sends. */
export function pinIn ({ params }: Call): string {
  const pin = params.get('pin') ?? ''
  if (!/^\d{6}$/.test(pin)) throw registerRefused(100)
  return pin
}

function count (phone: Phone): void {
  phone.attempts.push(now())
  if (phone.attempts.filter(at => at > now() - WINDOW_S).length > MAX_ATTEMPTS) throw registerRefused(133016)
}
