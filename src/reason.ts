/**
 * What went wrong, for a person at a terminal: the message alone, since a stack helps nobody there and may show a value.
 * What lies beneath says more: drizzle's own message shows a statement and its values, and that of a host with two
 * addresses is empty.
 */
export function reason (err: unknown): string {
  if (err instanceof AggregateError) return reason(err.errors[0])
  if (!(err instanceof Error)) return String(err)
  if (err.cause !== undefined) return reason(err.cause)
  const isTaken = 'code' in err && err.code === 'EADDRINUSE'
  return isTaken ? `${err.message}. Stop what listens there, or set PORT to another one.` : err.message
}
