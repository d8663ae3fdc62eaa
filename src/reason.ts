/**
 * What went wrong, for a person at a terminal: the message alone, since a stack helps nobody there and may show a value.
 * What lies beneath says more: drizzle's own message shows a statement and its values, and that of a host with two
 * addresses is empty.
 */
export function reason (err: unknown): string {
  if (err instanceof AggregateError) return reason(err.errors[0])
  if (!(err instanceof Error)) return String(err)
  return err.cause === undefined ? err.message : reason(err.cause)
}
