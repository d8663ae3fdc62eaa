import type { FastifyBaseLogger } from 'fastify'
import { bySystem, type Audit } from '../audit/audit.js'
import type { Database } from '../database/database.js'
import { isRefusal, MetaAppRejected, MetaPhoneNotInWaba, MetaRateLimited } from '../errors.js'
import type { Events, TenantEvent } from '../events/events.js'
import type { PhoneNumber } from '../meta/accounts.js'
import { retryAfterIn } from '../meta/advice.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { TokenFinding } from '../token-watch/state.js'
import type { TokenWatch } from '../token-watch/token-watch.js'
import type { Vault } from '../vault/vault.js'
import { createPoller } from '../waiting/poller.js'
import { waitFor } from '../waiting/wait-for.js'
import {
  claimedQuery, claimQuery, postponeQuery, refuseQuery, turnOn, type CheckedIdentity, type Claim, type ClaimedRow
} from './resumption.sql.js'

const SECOND_MS = 1000
const PERIOD_MS = 30 * SECOND_MS
/** Tenants that are checked at once. */
const BATCH = 10
const CALLS_PER_CHECK = 2
/** The part of a lease for the statements around the calls. */
const STATEMENTS_MS = 30 * SECOND_MS
/** The delay after a failure that is no refusal. */
const RETRY_MS = 5 * 60 * SECOND_MS

interface ResumptionDependencies {
  database: Pick<Database, 'run'>
  vault: Pick<Vault, 'open'>
  metaGraph: Pick<MetaGraph, 'appOf' | 'inspectToken' | 'listPhoneNumbers'>
  tenantConfigs: Pick<TenantConfigs, 'inTransaction'>
  tokenWatch: Pick<TokenWatch, 'recordIn' | 'recordNumberIn'>
  events: Pick<Events, 'record' | 'emit'>
  audit: Pick<Audit, 'record'>
  /** Milliseconds that a call to Meta may take. */
  timeoutMs: number
  closing: AbortSignal
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
}

/** The confirmation of Meta: the ends of the token, and the number, if the tenant has one. */
interface Confirmation { finding: TokenFinding, phone: PhoneNumber | null }

/**
 * Turns suspended tenants on again after a live check that holds. A check is due at `account_states.resume_at`; a claim
 * moves that time to its own end: no other process checks the tenant before, and one does if the claimant dies.
 */
export function createResumption (dependencies: ResumptionDependencies) {
  const { database, vault, metaGraph, tenantConfigs, tokenWatch, events, audit, timeoutMs, closing, log } = dependencies
  let isFailing = false

  return createPoller({ periodMs: PERIOD_MS, work: checkAllDue })

  async function checkAllDue (): Promise<void> {
    const lease = CALLS_PER_CHECK * timeoutMs + STATEMENTS_MS
    try {
      while (!closing.aborted) {
        const claims = await database.run(claimQuery(BATCH, lease))
        isFailing = false
        if (claims.length === 0) break
        await Promise.all(claims.map(async (claim) => { await process(claim).catch(reportFailure) }))
      }
    } catch (err) {
      reportFailure(err)
    }
  }

  /** Logs the first failure of an outage. Claimed tenants are due again when their claims end. */
  function reportFailure (err: unknown): void {
    if (!isFailing) log.warn({ err }, 'the resumption of suspended tenants failed; it is tried again')
    isFailing = true
  }

  async function process (claim: Claim): Promise<void> {
    const [row] = await database.run(claimedQuery(claim))
    if (row === undefined) return
    const { tenant_id: tenantId, waba_id: wabaId, access_token: sealed } = row
    if (sealed === null || wabaId === null) {
      await database.run(refuseQuery(claim))
      log.warn({ tenant_id: tenantId }, 'a tenant stays suspended: it has no account or no token to check')
      return
    }
    const identity = { waba_id: wabaId, phone_number_id: row.phone_number_id, access_token: sealed }
    let confirmation: Confirmation
    try {
      confirmation = await check(row, identity)
    } catch (err) {
      await handleFailure(claim, row, err)
      return
    }
    // Otherwise the identity is another one by now, and to be checked.
    if (!await resume(claim, row, identity, confirmation)) await database.run(postponeQuery(claim, 0))
  }

  /** Asks Meta whether the token is valid and the account has the number, if any. */
  async function check (row: ClaimedRow, { waba_id: wabaId, phone_number_id: phoneId, access_token }: CheckedIdentity) {
    const app = metaGraph.appOf(row)
    const token = vault.open(access_token, row.tenant_id, 'access_token')
    const { expires_at = row.token_expires_at, data_access_ends_at } =
      await waitFor(metaGraph.inspectToken(app, token), [closing])
    const phones = await waitFor(metaGraph.listPhoneNumbers(app, token, wabaId), [closing])
    const phone = phones.find(({ id }) => id === phoneId) ?? null
    if (phoneId !== null && phone === null) throw new MetaPhoneNotInWaba()
    const finding: TokenFinding = { valid: true, expires_at, data_access_ends_at }
    return { finding, phone }
  }

  /** Turns a checked tenant on. Returns false, without any write, where `turnOn` does. */
  async function resume (
    claim: Claim, { tenant_id: tenantId, account_event: event }: ClaimedRow, identity: CheckedIdentity,
    { finding, phone }: Confirmation
  ): Promise<boolean> {
    const recorded = await tenantConfigs.inTransaction(new Set([tenantId]), async (tx) => {
      if (!await turnOn(tx, claim, identity)) return null
      await audit.record({ ...bySystem, tenant_id: tenantId, action: 'config.activate', fields: [] }, tx)
      const account = { type: 'account.resumed', tenant_id: tenantId, from: 'suspended', to: 'ok', reason: event }
      const transitions: Array<TenantEvent | null | undefined> = [
        await events.record(tx, account),
        (await tokenWatch.recordIn(tx, tenantId, identity.access_token, finding))?.transition,
        phone && await tokenWatch.recordNumberIn(tx, tenantId, phone.id, phone)
      ]
      return transitions.filter((transition) => transition != null)
    }, identity)
    for (const transition of recorded ?? []) events.emit(transition)
    return recorded !== null
  }

  async function handleFailure (claim: Claim, row: ClaimedRow, err: unknown): Promise<void> {
    const about = { err, tenant_id: row.tenant_id }
    // A fault of the platform's app is not the tenant's; an operator corrects it.
    const isOwnAppRejected = err instanceof MetaAppRejected && row.fb_app_id !== null && row.fb_app_secret !== null
    if (isRefusal(err) || isOwnAppRejected) {
      await database.run(refuseQuery(claim))
      log.warn(about, 'a tenant stays suspended: Meta does not confirm its token, account and number')
    } else {
      await database.run(postponeQuery(claim, retryDelay(err)))
      log.warn(about, 'the check of a suspended tenant failed; it is tried again')
    }
  }

  /** Milliseconds until a failed check is repeated. At the closing, another process does so at once. */
  function retryDelay (err: unknown): number {
    if (closing.aborted) return 0
    const seconds = err instanceof MetaRateLimited ? retryAfterIn(err) : undefined
    return seconds === undefined ? RETRY_MS : seconds * SECOND_MS
  }
}
