import type { FormerIdentity, OnboardingRow } from '../database/schema/onboardings.js'
import type { TenantConfigRow } from '../database/schema/tenant-configs.js'

type Identity = Pick<TenantConfigRow, 'waba_id' | 'phone_number_id' | 'access_token'>

/** The identity in a row; null without an account or a token. */
export function formerIdentity (row: Identity | null): FormerIdentity | null {
  if (row === null || row.waba_id === null || row.access_token === null) return null
  const { waba_id, phone_number_id, access_token } = row
  return { waba_id, phone_number_id, access_token }
}

/** Whether both are the same account, number and stored token, or none. */
export function isSameIdentity (one: FormerIdentity | null, other: FormerIdentity | null): boolean {
  if (one === null || other === null) return one === other
  return isSameNumber(one, other) && one.access_token === other.access_token
}

/** Whether both are about the same number of the same account. */
export function isSameNumber (one: FormerIdentity, other: FormerIdentity | OnboardingRow): boolean {
  return one.waba_id === other.waba_id && one.phone_number_id === other.phone_number_id
}
