import { DrizzleQueryError } from 'drizzle-orm'
import pg from 'pg'
import { DatabaseUnavailable, PhoneNumberTaken, ValidationFailed } from '../errors.js'

// Class 08 connection · 53 resources · 57 operator intervention, statement timeout · 28, 3D, 55000 no access ·
// 25006 read-only standby · 55P03 lock timeout · 40 serialization, deadlock.
const UNAVAILABLE_STATES = /^(08|53|57|28|3D|40|25006|55000|55P03)/

/**
 * Maps an error of PostgreSQL or of the connection to one without values: `PHONE_NUMBER_TAKEN`, `DATABASE_UNAVAILABLE`,
 * or `VALIDATION_FAILED` for data that PostgreSQL cannot store. Returns the error itself when the statement is wrong.
 */
export function toApiError (err: unknown): unknown {
  if (!(err instanceof pg.DatabaseError)) return new DatabaseUnavailable({ cause: err })
  const { code: sqlstate = '', constraint } = err
  if (sqlstate === '23505' && constraint === 'verified_identities_phone_number_id_key') return new PhoneNumberTaken()
  if (sqlstate.startsWith('22')) return new ValidationFailed()
  return UNAVAILABLE_STATES.test(sqlstate) ? new DatabaseUnavailable({ cause: err }) : err
}

/** Runs work, and once more after a deadlock in which PostgreSQL rolled it back. */
export async function retryDeadlock<T> (work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (err) {
    if (err instanceof DatabaseUnavailable && isDeadlock(err.cause)) return await work()
    throw err
  }
}

const isDeadlock = (cause: unknown) => cause instanceof pg.DatabaseError && cause.code === '40P01'

/** Whether drizzle's error was caused by one of PostgreSQL with one of these SQLSTATEs. */
export function hasSqlState (err: unknown, ...states: string[]): boolean {
  const cause = err instanceof DrizzleQueryError ? err.cause : undefined
  return cause instanceof pg.DatabaseError && states.includes(String(cause.code))
}
