import type { FastifyBaseLogger } from 'fastify'
import { savePhoneCallback, type CallbackScope } from './callback-scope.sql.js'
import { supersedeOlder } from './onboardings.sql.js'
import type { StepName, TenantConfigRow } from '../database/schema.js'
import type { VerifiedIdentity } from '../tenant-configs/verified-identities.sql.js'
import {
  CallbackUrlTooLong, MetaPermissionMissing, MetaPhoneChoiceRequired, MetaPhoneNotInWaba, MetaRegisterRefused, MetaWabaNotAccessible, OnboardingSuperseded
} from '../errors.js'
import { advice } from '../meta/advice.js'
import { stepOf } from './record.js'
import type { Callback, PhoneNumber } from '../meta/accounts.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { Execution, ExecutionRecords } from './execution.js'
import type { ProvenIdentity, TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { TokenWatch } from '../token-watch/store.js'
import type { Vault } from '../vault/vault.js'

const NEEDED_SCOPES = ['whatsapp_business_management', 'whatsapp_business_messaging']
// developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/override
const MAX_CALLBACK_URL = 200
// A token may name many; whoever has more of them sends the waba_id.
const MAX_DISCOVERED = 20

interface StepDependencies {
  metaGraph: MetaGraph
  tenantConfigs: Pick<TenantConfigs, 'find' | 'saveOnboardedIdentity' | 'completeOnboarding' | 'callbackScope' | 'inTransaction'>
  tokenWatch: Pick<TokenWatch, 'record'>
  vault: Pick<Vault, 'seal' | 'open'>
  records: ExecutionRecords
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
  /** Milliseconds that all calls of a discovery may take together. */
  timeoutMs: number
}

/** The callback that Meta is to use for the tenant in place of the app's; null for none. Throws `CALLBACK_URL_TOO_LONG`. */
export function callbackOf (row: TenantConfigRow | null): Callback | null {
  if (row?.callback_url == null || row.verify_token === null) return null
  if (row.callback_url.length > MAX_CALLBACK_URL) throw new CallbackUrlTooLong()
  return { callback_url: row.callback_url, verify_token: row.verify_token }
}

/** What is done in each step. Each one writes down that it is done, and throws what keeps it from that. */
export function createSteps ({ metaGraph, tenantConfigs, tokenWatch, vault, records, log, timeoutMs }: StepDependencies): Record<StepName, (run: Execution) => Promise<void>> {
  return { exchange, inspect, assets, store, subscribe, register, done }

  async function exchange (run: Execution): Promise<void> {
    if (run.code === undefined) throw new Error('an exchange needs a code')
    const granted = await metaGraph.exchangeCode(run.app, { code: run.code, redirect_uri: run.redirect_uri })
    await records.saveToken(run, vault.seal(granted.access_token, run.record.tenant_id, 'access_token'), granted.expires_at)
  }

  async function inspect (run: Execution): Promise<void> {
    const { type, scopes, waba_ids, expires_at: told } = await metaGraph.inspectToken(run.app, tokenOf(run))
    // debug_token speaks of the token itself, so its "never" counts too; the exchange may leave its life out.
    const expiresAt = told === undefined ? run.record.token_expires_at : told
    const missing = NEEDED_SCOPES.filter((scope) => !scopes.includes(scope))
    if (missing.length > 0) log.warn({ onboarding: run.record.id, missing }, 'the granted token lacks scopes; whether it works, the calls decide')
    const evidence = { app_id: run.app.id, type, expires_at: expiresAt, scopes, missing_scopes: missing, waba_ids }
    run.hasInspected = true
    await records.finish(run, 'inspect', { evidence, change: { token_expires_at: expiresAt } })
  }

  async function assets (run: Execution): Promise<void> {
    const { waba_id: claimed, phone_number_id: wanted } = run.record
    const accounts = claimed === null ? await discover(run) : [{ waba_id: claimed, phones: await metaGraph.listPhoneNumbers(run.app, tokenOf(run), claimed) }]
    const { waba_id, phone_number_id } = chooseNumber(accounts, wanted)
    const evidence = { waba_id, phone_number_id, is_discovered: claimed === null, has_phone_number: phone_number_id !== null }
    await records.finish(run, 'assets', { evidence, change: { waba_id, phone_number_id } })
  }

  /** The accounts that the token names and sees. Source: developers.facebook.com/docs/graph-api/reference/debug_token */
  async function discover (run: Execution): Promise<VisibleAccount[]> {
    const named = stepOf(run.record, 'inspect').evidence?.['waba_ids']
    const ids = Array.isArray(named) ? named.slice(0, MAX_DISCOVERED).map(String) : []
    const signal = AbortSignal.timeout(timeoutMs)
    const accounts: VisibleAccount[] = []
    let refusal: Error = new MetaWabaNotAccessible()
    for (const waba_id of ids) {
      try {
        accounts.push({ waba_id, phones: await metaGraph.listPhoneNumbers(run.app, tokenOf(run), waba_id, signal) })
      } catch (err) {
        if (!(err instanceof MetaWabaNotAccessible || err instanceof MetaPermissionMissing)) throw err
        refusal = err
      }
    }
    if (accounts.length === 0) throw refusal
    return accounts
  }

  async function store (run: Execution): Promise<void> {
    const { tenant_id: tenantId, user_id: userId } = run.record
    await tenantConfigs.saveOnboardedIdentity(tenantId, userId, identityOf(run), async (tx, isNew) => {
      await records.finish(run, 'store', { evidence: { is_new: isNew } }, tx)
      await supersedeOlder(tx, run.record)
    })
  }

  async function subscribe (run: Execution): Promise<void> {
    const row = await tenantConfigs.find(run.record.tenant_id)
    const { waba_id, phone_number_id, access_token } = identityOf(run)
    // What somebody wrote since is not to be set up with what was proven before.
    if (row?.access_token !== access_token) throw new OnboardingSuperseded()
    const override = callbackOf(row)
    const callback = override && { ...override, verify_token: vault.open(override.verify_token, row.tenant_id, 'verify_token') }
    const of = { tenant_id: row.tenant_id, waba_id, phone_number_id }
    const scope = await tenantConfigs.callbackScope(of)
    const level = await setCallback(run, of, callback, scope)
    const isOwn = level === 'phone_number'
    const outcome = { evidence: { waba_id, callback: level } }
    if (phone_number_id === null || isOwn === scope.has_own) {
      await records.finish(run, 'subscribe', outcome)
      return
    }
    // Nobody is told: no row of `tenant_configs` changes.
    await tenantConfigs.inTransaction(new Set(), async (tx) => {
      await savePhoneCallback(tx, phone_number_id, isOwn)
      await records.finish(run, 'subscribe', outcome, tx)
    })
  }

  /** Subscribes the account and sets the tenant's callback, without touching where the messages of others go. Returns what it is set for. */
  async function setCallback (
    run: Execution, of: Omit<VerifiedIdentity, 'access_token'>, callback: Callback | null, ground: CallbackScope
  ): Promise<'none' | 'account' | 'phone_number'> {
    const { waba_id: wabaId, phone_number_id: phoneNumberId } = of
    const { is_shared: isShared, has_own: hasOwn } = ground
    const subscription = isShared ? await metaGraph.subscriptionOf(run.app, tokenOf(run), wabaId) : null
    // This clears the account's callback, which may be another tenant's.
    if (subscription === null) await metaGraph.subscribeApp(run.app, tokenOf(run), wabaId)
    if (callback !== null && !isShared && !hasOwn) {
      await metaGraph.overrideCallback(run.app, tokenOf(run), wabaId, callback)
      return 'account'
    }
    // The number's callback goes before the account's, so that an older one has to follow.
    if (phoneNumberId === null) return 'none'
    if (hasOwn || callback !== null) await metaGraph.overridePhoneCallback(run.app, tokenOf(run), phoneNumberId, callback, wabaId)
    if (callback !== null) return 'phone_number'
    if (subscription?.override_callback_uri != null) log.warn({ tenant_id: of.tenant_id, onboarding: run.record.id }, 'this tenant has no callback for its number, whose messages go to that of an account it shares')
    return 'none'
  }

  async function register (run: Execution): Promise<void> {
    const { pin_given: isWanted, phone_number_id: phoneNumberId } = run.record
    if (!isWanted) {
      await records.finish(run, 'register', { status: 'skipped', evidence: { reason: 'no_pin' } })
      return
    }
    if (phoneNumberId === null) throw Object.assign(new MetaRegisterRefused(), { advice: advice.noNumber })
    if (run.pin === undefined) throw Object.assign(new MetaRegisterRefused(), { advice: advice.pinNeeded })
    await metaGraph.registerNumber(run.app, tokenOf(run), phoneNumberId, run.pin, identityOf(run).waba_id)
    await records.finish(run, 'register', { evidence: { phone_number_id: phoneNumberId } })
  }

  async function done (run: Execution): Promise<void> {
    // Whoever goes on later does not know what has become of the token since.
    if (run.hasInspected !== true) await metaGraph.inspectToken(run.app, tokenOf(run))
    const identity = identityOf(run)
    const config = await tenantConfigs.completeOnboarding(run.record.tenant_id, identity, async (tx) => {
      await records.finish(run, 'done', { evidence: {}, change: { status: 'completed', access_token: null, holder: null } }, tx)
    })
    if (config === null) throw new OnboardingSuperseded()
    run.config = config
    await tokenWatch.record(config.tenant_id, identity.access_token, { valid: true, expires_at: config.token_expires_at }).catch((err: unknown) => {
      log.warn({ err, onboarding: run.record.id }, 'the state of a new token could not be noted; the next check will')
    })
  }

  function tokenOf ({ record }: Execution): string {
    return vault.open(sealedTokenOf(record), record.tenant_id, 'access_token')
  }
}

interface VisibleAccount { waba_id: string, phones: PhoneNumber[] }

/** The number that is wanted, or the only one there is; an account without any is enough. */
function chooseNumber (accounts: VisibleAccount[], wanted: string | null): { waba_id: string, phone_number_id: string | null } {
  const numbers = accounts.flatMap(({ waba_id, phones }) => phones.map((phone) => ({ waba_id, phone_number_id: phone.id })))
  if (wanted !== null) {
    const found = numbers.find(({ phone_number_id: id }) => id === wanted)
    if (found === undefined) throw new MetaPhoneNotInWaba()
    return found
  }
  const all = numbers.length > 0 ? numbers : accounts.map(({ waba_id }) => ({ waba_id, phone_number_id: null }))
  const [only, ...others] = all
  if (numbers.length === 0 && others.length > 0) throw Object.assign(new MetaWabaNotAccessible(), { advice: advice.noAccount })
  if (only === undefined || others.length > 0) {
    throw Object.assign(new MetaPhoneChoiceRequired(), { phone_numbers: accounts.flatMap(({ phones }) => phones) })
  }
  return only
}

function identityOf ({ record }: Execution): ProvenIdentity {
  const { waba_id, phone_number_id, token_expires_at } = record
  if (waba_id === null) throw new Error('an onboarding has no account yet')
  return { waba_id, phone_number_id, access_token: sealedTokenOf(record), token_expires_at }
}

function sealedTokenOf ({ access_token: sealed }: Execution['record']): string {
  if (sealed === null) throw new Error('an onboarding has no token yet')
  return sealed
}
