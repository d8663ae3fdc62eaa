import { Type, type StringOptions } from '@sinclair/typebox'

/** One character of any text, for a regular expression with the flag `u`: no control character, no lone surrogate. */
export const CHARACTER = '[^\\p{Cc}\\p{Cs}]'

const CLEAN = `^(?!\\s)${CHARACTER}+(?<!\\s)$`
// What enters a path must not walk up it.
const CLEAN_ID = `^(?!\\s)(?!\\.{1,2}$)${CHARACTER}+(?<!\\s)$`
const LINE = `^${CHARACTER}+$`

/** What each pattern demands, for whoever it refuses: the expression itself would tell them little. */
export const demands: Record<string, string> = {
  [CLEAN]: 'must not hold control characters or lone surrogates, nor begin or end with a blank',
  [CLEAN_ID]: 'must not be . or .., hold control characters or lone surrogates, nor begin or end with a blank',
  [LINE]: 'must not hold control characters or lone surrogates'
}

/** Any text a client may send, up to `maxLength` characters. */
export const text = (maxLength: number, options: StringOptions = {}) => Type.String({ pattern: CLEAN, minLength: 1, maxLength, ...options })

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
