import type { FastifyBaseLogger } from 'fastify'
import type { Database } from '../database/database.js'
import type { OnboardingRow, TenantConfigRow } from '../database/schema.js'
import { onlyRow } from '../database/statement.js'
import {
  CallbackUrlTooLong, MetaPermissionMissing, MetaPhoneChoiceRequired, MetaPhoneNotInWaba, MetaRegisterRefused,
  MetaWabaNotAccessible, OnboardingSuperseded
} from '../errors.js'
import type { Callback, PhoneNumber } from '../meta/accounts.js'
import { advice } from '../meta/advice.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { OnboardedIdentity, TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { TokenWatch } from '../token-watch/token-watch.js'
import type { Vault } from '../vault/vault.js'
import { callbackScopeQuery, savePhoneCallback, type CallbackScope, type TenantNumber } from './callback-scope.sql.js'
import type { Execution, Progress, Steps } from './executor.js'
import { supersedeOlder } from './onboardings.sql.js'
import { stepOf } from './record.js'

const NEEDED_SCOPES = ['whatsapp_business_management', 'whatsapp_business_messaging']
// developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/override
const MAX_CALLBACK_URL = 200
// Bounds the calls of a discovery. A tenant with more accounts sends the waba_id.
const MAX_DISCOVERED = 20

interface StepDependencies {
  database: Pick<Database, 'run'>
  metaGraph: MetaGraph
  tenantConfigs: Pick<TenantConfigs, 'find' | 'inTransaction' | 'saveOnboardedIdentity' | 'completeOnboarding'>
  tokenWatch: Pick<TokenWatch, 'record'>
  vault: Pick<Vault, 'seal' | 'open'>
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
  /** Milliseconds that all calls of a discovery may take together. */
  timeoutMs: number
}

/** Returns the callback of the tenant, sealed; null without one. Throws `CALLBACK_URL_TOO_LONG`. */
export function callbackOf (row: TenantConfigRow | null): Callback | null {
  if (row?.callback_url == null || row.verify_token === null) return null
  if (row.callback_url.length > MAX_CALLBACK_URL) throw new CallbackUrlTooLong()
  return { callback_url: row.callback_url, verify_token: row.verify_token }
}

/** The steps of an onboarding. */
export function createSteps (
  { database, metaGraph, tenantConfigs, tokenWatch, vault, log, timeoutMs }: StepDependencies
): Steps {
  return { exchange, inspect, assets, store, subscribe, register, done }

  async function exchange ({ app, code, redirect_uri, record }: Execution, { saveToken }: Progress): Promise<void> {
    if (code === undefined) throw new Error('an exchange needs a code')
    const granted = await metaGraph.exchangeCode(app, { code, redirect_uri })
    await saveToken(vault.seal(granted.access_token, record.tenant_id, 'access_token'), granted.expires_at)
  }

  async function inspect (execution: Execution, { finish }: Progress): Promise<void> {
    const { app, record } = execution
    const { type, scopes, waba_ids, expires_at } = await metaGraph.inspectToken(app, tokenOf(record))
    // The exchange may leave the expiry out, debug_token does not: its null means never.
    const expiresAt = expires_at === undefined ? record.token_expires_at : expires_at
    const missing = NEEDED_SCOPES.filter((scope) => !scopes.includes(scope))
    if (missing.length > 0) {
      log.warn({ onboarding: record.id, missing }, 'the granted token lacks scopes; whether it works, the calls decide')
    }
    const evidence = { app_id: app.id, type, expires_at: expiresAt, scopes, missing_scopes: missing, waba_ids }
    execution.hasInspected = true
    await finish({ evidence, change: { token_expires_at: expiresAt } })
  }

  async function assets ({ app, record }: Execution, { finish }: Progress): Promise<void> {
    const { waba_id: claimed, phone_number_id: wanted } = record
    const accounts = claimed === null
      ? await discover({ app, record })
      : [{ waba_id: claimed, phones: await metaGraph.listPhoneNumbers(app, tokenOf(record), claimed) }]
    const { waba_id, phone_number_id } = chooseNumber(accounts, wanted)
    const hasNumber = phone_number_id !== null
    const evidence = { waba_id, phone_number_id, is_discovered: claimed === null, has_phone_number: hasNumber }
    await finish({ evidence, change: { waba_id, phone_number_id } })
  }

  /**
   * Returns the accounts that the token names and sees.
   * Source: developers.facebook.com/docs/graph-api/reference/debug_token
   */
  async function discover ({ app, record }: Pick<Execution, 'app' | 'record'>): Promise<VisibleAccount[]> {
    const named = stepOf(record, 'inspect').evidence?.['waba_ids']
    const ids = Array.isArray(named) ? named.slice(0, MAX_DISCOVERED).map(String) : []
    const signal = AbortSignal.timeout(timeoutMs)
    const accounts: VisibleAccount[] = []
    let refusal: Error = new MetaWabaNotAccessible()
    for (const waba_id of ids) {
      try {
        accounts.push({ waba_id, phones: await metaGraph.listPhoneNumbers(app, tokenOf(record), waba_id, signal) })
      } catch (err) {
        if (!(err instanceof MetaWabaNotAccessible || err instanceof MetaPermissionMissing)) throw err
        refusal = err
      }
    }
    if (accounts.length === 0) throw refusal
    return accounts
  }

  async function store ({ record }: Execution, { finish }: Progress): Promise<void> {
    const { tenant_id: tenantId, user_id: userId } = record
    await tenantConfigs.saveOnboardedIdentity(tenantId, userId, identityOf(record), async (tx, isNew) => {
      await finish({ evidence: { is_new: isNew } }, tx)
      await supersedeOlder(tx, record)
    })
  }

  async function subscribe (execution: Execution, { finish }: Progress): Promise<void> {
    const { record } = execution
    const row = await tenantConfigs.find(record.tenant_id)
    const { waba_id, phone_number_id, access_token } = identityOf(record)
    // Another token was stored since; it may be for another account.
    if (row === null || row.access_token !== access_token) throw new OnboardingSuperseded()
    const sealed = callbackOf(row)
    const open = (verifyToken: string) => vault.open(verifyToken, row.tenant_id, 'verify_token')
    const callback = sealed && { ...sealed, verify_token: open(sealed.verify_token) }
    const number = { tenant_id: row.tenant_id, waba_id, phone_number_id }
    const scope = onlyRow(await database.run(callbackScopeQuery(number)))
    const level = await setCallback(execution, number, callback, scope)
    const hasOwn = level === 'phone_number'
    const result = { evidence: { waba_id, callback: level } }
    if (phone_number_id === null || hasOwn === scope.has_own) {
      await finish(result)
      return
    }
    // No row of `tenant_configs` changes, so no listener is notified.
    await tenantConfigs.inTransaction(new Set(), async (tx) => {
      await savePhoneCallback(tx, phone_number_id, hasOwn)
      await finish(result, tx)
    })
  }

  /**
   * Subscribes the account and sets the tenant's callback; the callbacks of other tenants stay. Returns the object
   * whose callback it set.
   */
  async function setCallback (
    { app, record }: Execution, number: TenantNumber, callback: Callback | null, { is_shared, has_own }: CallbackScope
  ): Promise<'none' | 'account' | 'phone_number'> {
    const { tenant_id, waba_id: wabaId, phone_number_id: phoneNumberId } = number
    const token = tokenOf(record)
    const subscription = is_shared ? await metaGraph.subscriptionOf(app, token, wabaId) : null
    // A subscription clears the account's callback, which may be another tenant's.
    if (subscription === null) await metaGraph.subscribeApp(app, token, wabaId)
    if (callback !== null && !is_shared && !has_own) {
      await metaGraph.overrideCallback(app, token, wabaId, callback)
      return 'account'
    }
    // The number's callback takes precedence over the account's: an older one must be replaced.
    if (phoneNumberId === null) return 'none'
    if (has_own || callback !== null) {
      await metaGraph.overridePhoneCallback(app, token, phoneNumberId, callback, wabaId)
    }
    if (callback !== null) return 'phone_number'
    if (subscription?.override_callback_uri != null) {
      log.warn({ tenant_id, onboarding: record.id },
        'this tenant has no callback for its number, whose messages go to that of an account it shares')
    }
    return 'none'
  }

  async function register ({ app, record, pin }: Execution, { finish }: Progress): Promise<void> {
    const { pin_given: isWanted, phone_number_id: phoneNumberId } = record
    if (!isWanted) {
      await finish({ status: 'skipped', evidence: { reason: 'no_pin' } })
      return
    }
    if (phoneNumberId === null) throw Object.assign(new MetaRegisterRefused(), { advice: advice.noNumber })
    if (pin === undefined) throw Object.assign(new MetaRegisterRefused(), { advice: advice.pinNeeded })
    await metaGraph.registerNumber(app, tokenOf(record), phoneNumberId, pin, identityOf(record).waba_id)
    await finish({ evidence: { phone_number_id: phoneNumberId } })
  }

  async function done (execution: Execution, { finish }: Progress): Promise<void> {
    const { app, record } = execution
    // An execution that resumes must check again that the token is valid.
    if (execution.hasInspected !== true) await metaGraph.inspectToken(app, tokenOf(record))
    const identity = identityOf(record)
    const config = await tenantConfigs.completeOnboarding(record.tenant_id, identity, async (tx) => {
      await finish({ evidence: {}, change: { status: 'completed', access_token: null, holder: null } }, tx)
    })
    if (config === null) throw new OnboardingSuperseded()
    execution.config = config
    const finding = { valid: true, expires_at: config.token_expires_at } as const
    await tokenWatch.record(config.tenant_id, identity.access_token, finding).catch((err: unknown) => {
      log.warn({ err, onboarding: record.id }, 'the state of a new token could not be noted; the next check will')
    })
  }

  function tokenOf (record: OnboardingRow): string {
    return vault.open(sealedTokenOf(record), record.tenant_id, 'access_token')
  }
}

interface VisibleAccount { waba_id: string, phones: PhoneNumber[] }

/** Returns the wanted number, else the only one; the only account when no account has a number. */
function chooseNumber (
  accounts: VisibleAccount[], wanted: string | null
): { waba_id: string, phone_number_id: string | null } {
  const numbers = accounts.flatMap(({ waba_id, phones }) => phones.map(({ id }) => ({ waba_id, phone_number_id: id })))
  if (wanted !== null) {
    const found = numbers.find(({ phone_number_id: id }) => id === wanted)
    if (found === undefined) throw new MetaPhoneNotInWaba()
    return found
  }
  const all = numbers.length > 0 ? numbers : accounts.map(({ waba_id }) => ({ waba_id, phone_number_id: null }))
  const [only, ...others] = all
  if (numbers.length === 0 && others.length > 0) {
    throw Object.assign(new MetaWabaNotAccessible(), { advice: advice.noAccount })
  }
  if (only === undefined || others.length > 0) {
    throw Object.assign(new MetaPhoneChoiceRequired(), { phone_numbers: accounts.flatMap(({ phones }) => phones) })
  }
  return only
}

function identityOf (record: OnboardingRow): OnboardedIdentity {
  const { waba_id, phone_number_id, token_expires_at } = record
  if (waba_id === null) throw new Error('an onboarding has no account yet')
  return { waba_id, phone_number_id, access_token: sealedTokenOf(record), token_expires_at }
}

function sealedTokenOf ({ access_token: sealed }: OnboardingRow): string {
  if (sealed === null) throw new Error('an onboarding has no token yet')
  return sealed
}
