import pg from 'pg'

// Class 08 connection · 57P01 terminated · 57P02 crash of another backend · 57P05 idle session timeout.
const LOST_STATES = /^(08|57P0[125])/
const LOST_MESSAGES = [
  'Connection terminated',
  'Connection terminated unexpectedly',
  'Client has encountered a connection error and is not queryable',
  'read ECONNRESET',
  'write ECONNRESET',
  'write EPIPE'
]
// Class 08 connection · 57 operator intervention · 25P03, 25P04 the session ends ·
// 0A000, 26000, 42P05 its prepared statements do not fit.
const BREAKING_STATES = /^(08|57|25P0[34]|0A000|26000|42P05)/
// The prepared statement is missing, or exists already.
const MISPLACED_STATES = ['26000', '42P05']

/** Whether the connection is lost, or an answer is outstanding: only an error of PostgreSQL ends a statement. */
export function isBreaking (err: unknown): boolean {
  return !(err instanceof pg.DatabaseError) || BREAKING_STATES.test(String(err.code))
}

/** Whether the connection was lost; the database may be up. */
export function isLost (err: unknown): boolean {
  if (err instanceof pg.DatabaseError) return LOST_STATES.test(String(err.code))
  return err instanceof Error && LOST_MESSAGES.includes(err.message)
}

/** Whether a pooler gave the connection to another client meanwhile, and so misplaced a prepared statement. */
export function isMisplaced (err: unknown): boolean {
  return err instanceof pg.DatabaseError && MISPLACED_STATES.includes(String(err.code))
}
