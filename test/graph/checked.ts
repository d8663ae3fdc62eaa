import type { Static, TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'

/** `value`, if it fits `schema`; throws an error that says where it does not. */
export function checked<T extends TSchema> (schema: T, value: unknown): Static<T> {
  if (Value.Check(schema, value)) return value
  const first = Value.Errors(schema, value).First()
  throw new Error(`${first?.path === '' ? 'it' : first?.path}: ${first?.message}`)
}
