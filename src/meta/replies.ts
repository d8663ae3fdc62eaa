import { type StaticDecode, type TSchema, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { headerToken } from '../schemas/fields.js'

/*
 * The replies of Meta: as documented, and with the types that come in place of the documented ones. A value is read if
 * it can mean one thing only. An absent part is null. Unknown fields are left out, unknown enums pass.
 *
 * `Encode` only completes the builder: nothing is sent by these schemas.
 */

/** An access token that a bearer header can carry; for any other, fetch would report a network failure. */
export const Token = headerToken(4096)

// A JSON number beyond 2^53 is a bigint (`http-client.ts`).
const Natural = [Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }), Type.BigInt({ minimum: 1n })]

// No control characters and no surrogates: PostgreSQL takes not all of them.
const IdText = Type.String({ pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f\\ud800-\\udfff]{1,255}$' })
/** An id, also as a JSON number: its digits. */
const Id = Type.Transform(Type.Union([IdText, ...Natural])).Decode(String).Encode(String)

/** A text, also of digits as a JSON number. */
const Text = Type.Transform(Type.Union([Type.String(), ...Natural])).Decode(String).Encode(String)

/** A number of seconds, of calls or the like, also as a text of digits. */
export const Amount = Type.Transform(Type.Union([
  Type.Number({ minimum: 0 }), Type.BigInt({ minimum: 0n }), Type.String({ pattern: '^\\d{1,32}$' })
])).Decode(Number).Encode(Number)

/** The code of an error, also as a text. */
const Code = Type.Transform(Type.Union([
  Type.Integer({ minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER }),
  Type.String({ pattern: '^-?\\d{1,15}$' })
])).Decode(Number).Encode(Number)

const True = Type.Union([Type.Literal(true), Type.Literal('true'), Type.Literal(1), Type.Literal('1')])
const False = Type.Union([Type.Literal(false), Type.Literal('false'), Type.Literal(0), Type.Literal('0')])
const Flag = Type.Transform(Type.Union([True, False])).Decode((value) => Value.Check(True, value)).Encode(Boolean)

/** A part that may be absent. The reply cannot be read if the part cannot. */
const optional = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()], { default: null })

/** A part that nothing depends on: null if it cannot be read. */
const informative = <T extends TSchema>(schema: T) =>
  Type.Transform(Type.Unknown({ default: null })).Decode((value) => read(schema, value) ?? null).Encode(String)

/** The items of a list that can be read. */
const readable = <T extends TSchema>(item: T) => Type.Transform(Type.Unknown({ default: null }))
  .Decode((value) => (Array.isArray(value) ? value : []).flatMap((one): StaticDecode<T>[] => {
    const decoded = read(item, one)
    return decoded === undefined ? [] : [decoded]
  }))
  .Encode(String)

/** Reads JSON by a schema, and changes it in place; undefined if it does not fit. */
export function read<T extends TSchema> (schema: T, json: unknown): StaticDecode<T> | undefined {
  try {
    const value = Value.Default(schema, json)
    return Value.Check(schema, value) ? Value.Decode(schema, Value.Clean(schema, value)) : undefined
  } catch {
    // Default copies a part that may be null, and overflows the stack where it nests thousands of levels.
    return undefined
  }
}

/** Meta's error envelope, however bare. */
export const ErrorReply = Type.Object({
  error: Type.Object({
    code: informative(Code),
    error_subcode: informative(Code),
    message: informative(Type.String()),
    is_transient: informative(Flag),
    fbtrace_id: informative(Type.String())
  })
})

/** A call that was done. */
export const Done = Type.Object({ success: True })

/** A granted or extended token. An unreadable expiry does not lose the token: `debug_token` has it too. */
export const GrantedToken = Type.Object({ access_token: Token, expires_in: informative(Amount) })

/** The answer of `debug_token`. `app_id` may be absent when the token is not valid. */
export const InspectedToken = Type.Object({
  data: Type.Object({
    is_valid: Flag,
    app_id: optional(Id),
    type: informative(Type.String()),
    expires_at: informative(Amount),
    data_access_expires_at: informative(Amount),
    scopes: readable(Type.String()),
    granular_scopes: readable(Type.Object({ scope: Type.String(), target_ids: readable(Id) })),
    error: informative(Type.Object({ code: informative(Code), subcode: informative(Code) }))
  })
})

/** A page of a list. Its items, and whether another page follows, must be readable. */
export const Page = <T extends TSchema>(item: T) => Type.Object({
  data: Type.Array(item),
  paging: optional(Type.Object({
    cursors: optional(Type.Object({ after: optional(Text) })),
    next: optional(Type.String())
  }))
})

/** An object of which only the id matters. */
export const Node = Type.Object({ id: Id })

export const PhoneNumber = Type.Object({
  id: Id,
  display_phone_number: informative(Text),
  verified_name: informative(Text),
  /** Whether the WhatsApp Business app uses the number too (coexistence). */
  is_on_biz_app: informative(Flag),
  platform_type: informative(Type.String()),
  quality_rating: informative(Type.String()),
  status: informative(Type.String())
})

/** The subscription of an app to a WABA. */
export const Subscription = Type.Object({
  whatsapp_business_api_data: optional(Type.Object({ id: optional(Id) })),
  override_callback_uri: optional(Type.String())
})

/** The callbacks that apply to a phone number: its own, its WABA's, its app's. */
export const Callbacks = Type.Object({
  id: Id,
  webhook_configuration: optional(Type.Object({
    phone_number: optional(Type.String()),
    whatsapp_business_account: optional(Type.String()),
    application: optional(Type.String())
  }))
})
