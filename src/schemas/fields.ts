import { Type, type StringOptions, type TSchema } from '@sinclair/typebox'

/** Stands for a secret where it must not be read. */
export const MASK = '****'

/** One character of any text, for a regular expression with the flag `u`: no control character, no lone surrogate. */
export const CHARACTER = '[^\\p{Cc}\\p{Cs}]'

const CLEAN = `^(?!\\s)${CHARACTER}+(?<!\\s)$`
// What enters a path must not walk up it.
const CLEAN_ID = `^(?!\\s)(?!\\.{1,2}$)${CHARACTER}+(?<!\\s)$`
const LINE = `^${CHARACTER}+$`
const VISIBLE_ASCII = '^[!-~]+$'

// Without \p, look-around and the flag `u`, which many engines do not have. The server alone refuses lone surrogates, `.` and `..`.
const [PORTABLE, PORTABLE_END] = ['[^\\x00-\\x1f\\x7f-\\x9f]', '[^\\s\\x00-\\x1f\\x7f-\\x9f]']
const PORTABLE_CLEAN = `^${PORTABLE_END}(${PORTABLE}*${PORTABLE_END})?$`

/**
 * The patterns of fields. `demand` is the message for a value that is refused: the expression itself would tell a client little.
 * `portable` stands in the OpenAPI document: it accepts what the pattern accepts, in any engine, and refuses less.
 */
export const patterns: Record<string, { demand: string, portable: string }> = {
  [CLEAN]: { demand: 'must not hold control characters or lone surrogates, nor begin or end with a blank', portable: PORTABLE_CLEAN },
  [CLEAN_ID]: { demand: 'must not be . or .., hold control characters or lone surrogates, nor begin or end with a blank', portable: PORTABLE_CLEAN },
  [LINE]: { demand: 'must not hold control characters or lone surrogates', portable: `^${PORTABLE}+$` },
  [VISIBLE_ASCII]: { demand: 'must be visible ASCII without blanks: an HTTP header carries it', portable: VISIBLE_ASCII }
}

/** Any text a client may send, up to `maxLength` characters. */
export const text = (maxLength: number, options: StringOptions = {}) => Type.String({ pattern: CLEAN, minLength: 1, maxLength, ...options })

/** A token that is sent in an HTTP header. */
export const headerToken = (maxLength: number, options: StringOptions = {}) =>
  Type.String({ pattern: VISIBLE_ASCII, minLength: 1, maxLength, ...options })

/** An opaque id of Meta's. */
export const graphId = (options: StringOptions = {}) => Type.String({ pattern: CLEAN_ID, minLength: 1, maxLength: 255, ...options })

/** The same with blanks where they are: it is compared or sent back, never cleaned. */
export const line = (maxLength: number, options: StringOptions = {}) => Type.String({ pattern: LINE, minLength: 1, maxLength, ...options })

/** A tenant's id. */
export const tenantId = (options: StringOptions = {}) => line(100, options)

/** An absolute https URL. */
export const webUrl = (maxLength: number, options: StringOptions = {}) => text(maxLength, { format: 'web-url', ...options })

/** A moment: RFC 3339 on its way in, ISO 8601 in UTC on its way out. */
export const timestamp = (options: StringOptions = {}) => Type.String({ format: 'date-time', ...options })

/** The same, or null. One type keyword instead of a union keeps validation messages to the point. */
export const nullable = <T extends { type: 'string' }>(schema: T) => Type.Unsafe<string | null>({ ...schema, type: ['string', 'null'] })

/** A member that Meta may leave out, or write as null. */
export const maybe = <T extends TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]))

/** One of a list of names. */
export const oneOf = <const T extends readonly string[]>(names: T, options: StringOptions) =>
  Type.Unsafe<T[number]>({ type: 'string', enum: names, ...options })
