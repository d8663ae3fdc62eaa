import { ids } from './workload.js'

export const hotTenants = ids('hot', 20)
/** Tenants without a row. */
export const strangers = ids('stranger', 50)

/** Questions about tenants with and without a row, first asked in an outage. */
export const cold = [
  ...ids('tenant:cold', 50), ...ids('number:n-cold', 50), ...ids('account:a-cold', 50),
  ...strangers.map((id) => `tenant:${id}`)
]

/** Questions that are not asked in an outage. */
export const late = ids('tenant:late', 50)

/** Questions whose answers are cached before an outage. */
export const cached = hotTenants.flatMap((id) => [`tenant:${id}`, `number:n-${id}`, `account:a-${id}`])

/**
 * Questions about tenants that are never revoked. A missing row is not served again when a late failure reports another
 * outage.
 */
export const neverRevoked = cached.filter((question) => !/hot[012]$/.test(question))

/** Questions whose answer is `nobody`, cached before an outage. */
export const nobody = ['tenant:nobody', 'number:nobody', 'account:nobody']
