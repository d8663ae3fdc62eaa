import pg from 'pg'
import { DatabaseUnavailable, PhoneNumberTaken, ValidationFailed } from '../errors.js'

// Class 08 connection · 53 resources · 57 operator intervention, statement timeout · 28, 3D, 55000 no way in ·
// 25006 read-only standby · 55P03 lock timeout · 40 serialization, deadlock.
const UNAVAILABLE_STATES = /^(08|53|57|28|3D|40|25006|55000|55P03)/

/**
 * Maps what PostgreSQL or the connection says to an error that holds no value: `PHONE_NUMBER_TAKEN`, `VALIDATION_FAILED`
 * for data PostgreSQL cannot hold, `DATABASE_UNAVAILABLE`; the error itself where the statement is at fault.
 */
export function toApiError (err: unknown): unknown {
  if (!(err instanceof pg.DatabaseError)) return new DatabaseUnavailable({ cause: err })
  const { code: sqlstate = '', constraint } = err
  if (sqlstate === '23505' && constraint === 'verified_identities_phone_number_id_key') return new PhoneNumberTaken()
  if (sqlstate.startsWith('22')) return new ValidationFailed()
  return UNAVAILABLE_STATES.test(sqlstate) ? new DatabaseUnavailable({ cause: err }) : err
}

/** Runs work a second time when PostgreSQL undid it to end a deadlock. */
export async function retryDeadlock<T> (work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (err) {
    if (err instanceof DatabaseUnavailable && isDeadlock(err.cause)) return await work()
    throw err
  }
}

const isDeadlock = (cause: unknown) => cause instanceof pg.DatabaseError && cause.code === '40P01'
