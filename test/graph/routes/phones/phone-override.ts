import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { parse } from '../../body.js'
import { GraphError, type Json } from '../../errors.js'
import type { GraphState } from '../../state.js'
import { assertMaySetCallback } from '../../webhooks/callback.js'
import { openPhone } from '../objects.js'
import type { Call } from '../tokens/auth.js'
import { pinIn } from './register.js'

const Wanted = Type.Object({ override_callback_uri: Type.String(), verify_token: Type.String({ default: '' }) })

/**
 * `POST /{phone_number_id}`. A `webhook_configuration` sets the number's own callback once the callback has verified
 * itself; an empty one removes it. A `pin` sets the PIN of the two-step verification.
 */
export async function changePhone (state: GraphState, call: Call): Promise<Json> {
  const { token: { app }, waba, phone } = openPhone(state, call)
  const sent = call.params.get('webhook_configuration')
  if (sent === null) {
    phone.pin = pinIn(call)
    return { success: true }
  }
  const wanted = Value.Default(Wanted, parse(sent))
  if (!Value.Check(Wanted, wanted)) {
    throw new GraphError(400, 100, '(#100) Param webhook_configuration must have an override_callback_uri')
  }
  const override = { url: wanted.override_callback_uri, verify_token: wanted.verify_token }
  if (override.url === '') {
    delete phone.override
  } else {
    await assertMaySetCallback(app, waba, override)
    phone.override = override
  }
  return { success: true }
}
