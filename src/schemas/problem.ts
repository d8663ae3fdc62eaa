import { Type, type Static } from '@sinclair/typebox'

const stringOrNull = (description: string) => Type.Union([Type.String(), Type.Null()], { description })

/** One of the phone numbers of META_PHONE_CHOICE_REQUIRED and META_NUMBER_CHANGED. */
export const PhoneChoice = Type.Object({
  id: Type.String({ description: 'Send it as phone_number_id' }),
  display_phone_number: stringOrNull('The number, as Meta shows it'),
  verified_name: stringOrNull('Whose number it is, by Meta')
})
export type PhoneChoice = Static<typeof PhoneChoice>

/** The body of every error (RFC 9457). Its codes are stable. */
export const Problem = Type.Object({
  type: Type.String({ description: 'Always about:blank: the code says what it is' }),
  title: Type.String({ description: 'The HTTP status in words' }),
  status: Type.Integer({ description: 'The HTTP status' }),
  detail: Type.String({ description: 'What is wrong and what to do next' }),
  code: Type.String({ description: 'Stable; branch on this' }),
  request_id: Type.String({ description: 'Tell it to the platform: its log has the same' }),
  errors: Type.Optional(Type.Array(Type.Object({
    field: Type.String({ description: 'A field or parameter, or the part of the request' }),
    message: Type.String({ description: 'The rule it breaks' })
  }), { description: 'With VALIDATION_FAILED: what is wrong where' })),
  confirm: Type.Optional(Type.String({ description: 'With CONFIRMATION_REQUIRED: what to send as ?confirm=' })),
  phone_numbers: Type.Optional(Type.Array(PhoneChoice, {
    description: 'With META_PHONE_CHOICE_REQUIRED and META_NUMBER_CHANGED: what there is to choose from'
  }))
}, { $id: 'Problem', description: 'application/problem+json (RFC 9457)' })

export type Problem = Static<typeof Problem>
