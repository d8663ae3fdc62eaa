import type { Static, TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'

/** Returns `value` if it matches `schema`; throws an error with the path of the first mismatch. */
export function validate<T extends TSchema> (schema: T, value: unknown): Static<T> {
  if (Value.Check(schema, value)) return value
  const first = Value.Errors(schema, value).First()
  throw new Error(`${first?.path === '' ? 'it' : first?.path}: ${first?.message}`)
}
