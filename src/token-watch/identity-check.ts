import type { FastifyBaseLogger } from 'fastify'
import type { TenantConfigRow } from '../database/schema.js'
import { isRefusal, MetaAppRejected } from '../errors.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { MetaApp } from '../meta/types.js'
import type { TenantConfigs, VerifiedOutcome } from '../tenant-configs/tenant-configs.js'
import type { Vault } from '../vault/vault.js'
import type { MetaCaller } from './check.js'

/** The account and number that a tenant claims, and the token to verify them with, sealed. */
export type ClaimedIdentity =
  Pick<TenantConfigRow, 'tenant_id' | 'phone_number_id'> & { waba_id: string, access_token: string }

interface IdentityCheckDependencies {
  vault: Pick<Vault, 'open'>
  metaGraph: Pick<MetaGraph, 'listPhoneNumbers'>
  tenantConfigs: Pick<TenantConfigs, 'saveVerified'>
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
}

/** Returns `verifyIdentity`, which verifies a claimed identity: anybody may write any ids into a row. */
export function createIdentityCheck ({ vault, metaGraph, tenantConfigs, log }: IdentityCheckDependencies) {
  /**
   * Saves the identity as verified when the token sees the account, and the account has the number, if any.
   *
   * @param app undefined to ask with the token alone
   * @returns `unlisted` when Meta does not confirm it
   * @throws `SECRET_UNREADABLE`, `DATABASE_UNAVAILABLE`, the errors of `callMeta`, and those of `listPhoneNumbers`
   * except refusals
   */
  return async function verifyIdentity (
    identity: ClaimedIdentity, app: MetaApp | undefined, callMeta: MetaCaller
  ): Promise<VerifiedOutcome | 'unlisted'> {
    const { tenant_id: tenantId, waba_id: wabaId, phone_number_id: phoneNumberId } = identity
    const token = vault.open(identity.access_token, tenantId, 'access_token')
    try {
      const phones = await callMeta(() => metaGraph.listPhoneNumbers(app, token, wabaId))
      if (phoneNumberId !== null && !phones.some(({ id }) => id === phoneNumberId)) return 'unlisted'
    } catch (err) {
      // An app may demand proofs: a call with the token alone is rejected then.
      if (isRefusal(err) || err instanceof MetaAppRejected) return 'unlisted'
      throw err
    }
    const outcome = await tenantConfigs.saveVerified(identity)
    if (outcome === 'saved') log.info({ tenant_id: tenantId }, 'verified the account and the number of a tenant')
    if (outcome === 'taken') {
      log.warn({ tenant_id: tenantId }, 'a number stays unverified: it is verified for another tenant')
    }
    return outcome
  }
}
