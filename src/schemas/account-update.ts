import { Type } from '@sinclair/typebox'
import { line } from './fields.js'

/** The query of Meta's verification request. The webhook URL may carry other parameters. */
export const VerifyQuery = Type.Object({
  'hub.mode': Type.Optional(Type.String({ description: 'Always subscribe', examples: ['subscribe'] })),
  'hub.verify_token': Type.Optional(
    Type.String({ description: 'WEBHOOK_VERIFY_TOKEN', examples: ['a-verify-token-of-the-platform'] })
  ),
  'hub.challenge': line(512, { description: 'What is to be answered', examples: ['1158201444'] })
}, { additionalProperties: true })

/** The query of a delivery: the webhook URL may carry parameters. */
export const DeliveryQuery = Type.Object({}, { additionalProperties: true })

/** The body of a delivery. Any shape is accepted: Meta would repeat a delivery that is refused. */
export const Delivery = Type.Unknown({
  description: 'Meta\'s webhook body, signed as it is: `object` is whatsapp_business_account, ' +
    'and of `entry[].changes[]` those with `field` account_update count',
  examples: [{
    object: 'whatsapp_business_account',
    entry: [{
      id: '524126980791429',
      time: 1795435200,
      changes: [{
        field: 'account_update',
        value: {
          event: 'PARTNER_REMOVED',
          waba_info: { waba_id: '102290129340398', owner_business_id: '524126980791429' }
        }
      }]
    }]
  }]
})

/** The headers that a delivery needs. */
export const DeliveryHeaders = Type.Object({
  'x-hub-signature-256': Type.Optional(Type.String({
    description: 'sha256= and the HMAC-SHA256 of the bytes of the body, with the secret of the app, ' +
      'as 64 lower-case hex digits',
    examples: ['sha256=6a0c3e4b5f4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a3']
  }))
})

/** The answer to a delivery. */
export const Received = Type.Object({
  success: Type.Literal(true, { description: 'Always true: else the answer is an error' })
}, { description: 'Taken', examples: [{ success: true }] })

/** The answer to a verification request. */
export const Challenge = Type.String({
  description: 'hub.challenge, character by character',
  examples: ['1158201444']
})
