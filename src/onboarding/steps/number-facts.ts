import { Type, type Static } from '@sinclair/typebox'
import type { PhoneNumber } from '../../meta/accounts.js'

const word = Type.Union([Type.String(), Type.Null()])

/** The facts about the chosen number, as evidence. */
export const NumberFacts = Type.Object({
  display_phone_number: word,
  verified_name: word,
  is_on_biz_app: Type.Union([Type.Boolean(), Type.Null()]),
  platform_type: word,
  quality_rating: word,
  status: word
})

/** The evidence about a number. */
export function numberFacts ({ id: _id, ...facts }: PhoneNumber): Static<typeof NumberFacts> {
  return facts
}
