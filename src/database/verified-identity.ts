import { sql } from 'drizzle-orm'
import { tenantConfigs, verifiedIdentities } from './schema/tenant-configs.js'

/**
 * Joins a row of `tenant_configs` to its verified identity; an unverified claim has none. Both lookups by id, the check
 * for a shared account and the removal use this condition.
 */
export const isVerified = sql`(
  ${verifiedIdentities.tenant_id} = ${tenantConfigs.tenant_id}
  and ${verifiedIdentities.waba_id} = ${tenantConfigs.waba_id}
  and ${verifiedIdentities.phone_number_id} is not distinct from ${tenantConfigs.phone_number_id}
)`

/** Selects the tenants of the verified numbers on an account. */
export const numbersOnAccount = (wabaId: string | null) => sql`
  select ${verifiedIdentities.tenant_id} from ${tenantConfigs} join ${verifiedIdentities} on ${isVerified}
  where ${verifiedIdentities.waba_id} = ${wabaId} and ${verifiedIdentities.phone_number_id} is not null`
