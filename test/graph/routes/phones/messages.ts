import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { parse } from '../../body.js'
import { GraphError, registerRefused, type Json } from '../../errors.js'
import { opaque, type GraphState } from '../../state.js'
import { maySend, openPhone } from '../objects.js'
import type { Call } from '../tokens/auth.js'

const Text = Type.Object({ body: Type.String({ minLength: 1 }) })

/**
 * `POST /{phone_number_id}/messages`: accepts a message of a registered number and does not send it. Only a text is
 * validated. Source of parameters and answer: Meta, WhatsApp, "Messages API"; the texts of the refusals are from live
 * answers.
 */
export function messages (state: GraphState, call: Call): Json {
  const { phone } = openPhone(state, call, maySend)
  const { params } = call
  const to = params.get('to') ?? ''
  if (params.get('messaging_product') !== 'whatsapp') throw required('messaging_product')
  if (to === '') throw required('to')
  if ((params.get('type') ?? 'text') === 'text' && !Value.Check(
    Text,
    parse(params.get('text') ?? '')
  )) throw required("text['body']")
  if (!phone.registered) throw registerRefused(133010)
  return {
    messaging_product: 'whatsapp',
    contacts: [{ input: to, wa_id: to.replace(/\D/g, '') }],
    messages: [{ id: opaque('wamid.HBgL', 40) }]
  }
}

function required (name: string): GraphError {
  return new GraphError(400, 100, `(#100) The parameter ${name} is required.`)
}
