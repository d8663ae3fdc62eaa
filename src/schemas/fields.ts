import { Type, type StringOptions, type TSchema } from '@sinclair/typebox'

/** Replaces a secret in an answer. */
export const MASK = '****'

/** Matches one character, with the flag `u`; control characters and lone surrogates do not match. */
export const CHARACTER = '[^\\p{Cc}\\p{Cs}]'

const CLEAN = `^(?!\\s)${CHARACTER}+(?<!\\s)$`
// An id becomes a step of a Graph URL's path: `.` and `..` would change the path.
const CLEAN_ID = `^(?!\\s)(?!\\.{1,2}$)${CHARACTER}+(?<!\\s)$`
const LINE = `^${CHARACTER}+$`
const VISIBLE_ASCII = '^[!-~]+$'
const UUID = '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
// RFC 9110, sections 8.8.3 and 5.6.1: elements of a list may be empty.
const ENTITY_TAG = '(W/)?"[!#-~\\x80-\\xff]*"'
const ENTITY_TAGS = `^(\\*|[ \\t]*(${ENTITY_TAG}[ \\t]*)?(,[ \\t]*(${ENTITY_TAG}[ \\t]*)?)*)$`
// A quoted one is a String of RFC 9651. Two headers arrive as one text with a blank, which neither form takes.
const IDEMPOTENCY_KEY = '^([!#-~][!-~]{0,254}|"([ !#-\\[\\]-~]|\\\\["\\\\]){1,255}")$'

// Many engines lack \p, look-around and the flag `u`, so these patterns accept lone surrogates, `.` and `..`.
const [PORTABLE, PORTABLE_END] = ['[^\\x00-\\x1f\\x7f-\\x9f]', '[^\\s\\x00-\\x1f\\x7f-\\x9f]']
const PORTABLE_CLEAN = `^${PORTABLE_END}(${PORTABLE}*${PORTABLE_END})?$`

/**
 * The patterns of fields. `demand` is the message for a value that does not match.
 * `portable` replaces the pattern in the OpenAPI document: it works in any engine and accepts at least as much.
 */
export const patterns: Record<string, { demand: string, portable: string }> = {
  [CLEAN]: {
    demand: 'must not hold control characters or lone surrogates, nor begin or end with a blank',
    portable: PORTABLE_CLEAN
  },
  [CLEAN_ID]: {
    demand: 'must not be . or .., hold control characters or lone surrogates, nor begin or end with a blank',
    portable: PORTABLE_CLEAN
  },
  [LINE]: {
    demand: 'must not hold control characters or lone surrogates',
    portable: `^${PORTABLE}+$`
  },
  [VISIBLE_ASCII]: {
    demand: 'must be visible ASCII without blanks: an HTTP header carries it',
    portable: VISIBLE_ASCII
  },
  [ENTITY_TAGS]: {
    demand: 'must be * or entity tags in double quotes, separated by commas',
    portable: ENTITY_TAGS
  },
  [IDEMPOTENCY_KEY]: {
    demand: 'must be 1 to 255 visible ASCII characters; within double quotes blanks may be among them',
    portable: IDEMPOTENCY_KEY
  }
}

/** A text without blanks at its ends. */
export const text = (maxLength: number, options: StringOptions = {}) =>
  Type.String({ pattern: CLEAN, minLength: 1, maxLength, ...options })

/** A token for an HTTP header. */
export const headerToken = (maxLength: number, options: StringOptions = {}) =>
  Type.String({ pattern: VISIBLE_ASCII, minLength: 1, maxLength, ...options })

/** The value of the header `Idempotency-Key`, bare or in double quotes. */
export const idempotencyKey = (options: StringOptions = {}) => Type.String({ pattern: IDEMPOTENCY_KEY, ...options })

/** An opaque id of a Graph object. */
export const graphId = (options: StringOptions = {}) =>
  Type.String({ pattern: CLEAN_ID, minLength: 1, maxLength: 255, ...options })

/** A text that may begin or end with a blank: it is compared or sent back unchanged. */
export const line = (maxLength: number, options: StringOptions = {}) =>
  Type.String({ pattern: LINE, minLength: 1, maxLength, ...options })

export const tenantId = (options: StringOptions = {}) => line(100, options)

export const uuid = (options: StringOptions = {}) => Type.String({ pattern: UUID, ...options })

/** An absolute https URL. */
export const webUrl = (maxLength: number, options: StringOptions = {}) =>
  text(maxLength, { format: 'web-url', ...options })

/** The value of `If-Match` or `If-None-Match`. */
export const entityTags = (options: StringOptions) => Type.String({ pattern: ENTITY_TAGS, ...options })

/** A moment: RFC 3339 with any offset in a request, ISO 8601 in UTC in an answer. */
export const timestamp = (options: StringOptions = {}) => Type.String({ format: 'date-time', ...options })

/** The string, or null. It is one type keyword: a union would give a validation message for each branch. */
export const nullable = <T extends { type: 'string' }>(schema: T) =>
  Type.Unsafe<string | null>({ ...schema, type: ['string', 'null'] })

/** A member of Meta's answer that may be absent or null. */
export const maybe = <T extends TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]))

export const oneOf = <const T extends readonly string[]>(names: T, options: StringOptions) =>
  Type.Unsafe<T[number]>({ type: 'string', enum: names, ...options })

/** The parameter `limit` of a list; `things` are what it lists. */
export const pageLimit = (pageSize: number, things: string) => Type.Optional(Type.Integer({
  minimum: 1, maximum: 200, default: pageSize, description: `How many ${things} a page has`, examples: [10]
}))
