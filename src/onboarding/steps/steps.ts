import { Value } from '@sinclair/typebox/value'
import type { FastifyBaseLogger } from 'fastify'
import { bySystem, type Audit } from '../../audit/audit.js'
import type { Database } from '../../database/database.js'
import type { OnboardingRow } from '../../database/schema/onboardings.js'
import { MetaRegisterRefused, OnboardingSuperseded } from '../../errors.js'
import type { Events, TenantEvent } from '../../events/events.js'
import { advice } from '../../meta/advice.js'
import type { MetaGraph } from '../../meta/meta-graph.js'
import type { OnboardedIdentity, TenantConfigs } from '../../tenant-configs/tenant-configs.js'
import type { TokenWatch } from '../../token-watch/token-watch.js'
import type { Vault } from '../../vault/vault.js'
import type { Execution, Progress, Steps } from '../executor.js'
import { formerIdentity, isSameIdentity, isSameNumber } from '../former-identity.js'
import { supersedeOlder } from '../onboardings.sql.js'
import { stepOf } from '../record.js'
import { chooseNumber, createAccountSearch } from './accounts.js'
import { savePhoneCallback } from './callback-scope.sql.js'
import { callbackOf, createCallbacks, type Access } from './callback.js'
import { NumberFacts, numberFacts } from './number-facts.js'

const STORED_FIELDS = ['waba_id', 'phone_number_id', 'access_token', 'token_expires_at']
const NEEDED_SCOPES = ['whatsapp_business_management', 'whatsapp_business_messaging']

interface StepDependencies {
  database: Pick<Database, 'run' | 'count'>
  metaGraph: MetaGraph
  tenantConfigs: Pick<
    TenantConfigs, 'find' | 'inTransaction' | 'saveOnboardedIdentity' | 'completeOnboarding' | 'verifiedNumberOf'
  >
  tokenWatch: Pick<TokenWatch, 'record' | 'recordNumberIn'>
  events: Pick<Events, 'record' | 'emit'>
  audit: Pick<Audit, 'record'>
  vault: Pick<Vault, 'seal' | 'open'>
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
  /** Milliseconds that all calls of a discovery may take together. */
  timeoutMs: number
}

/** The steps of an onboarding. */
export function createSteps (dependencies: StepDependencies): Steps {
  const { metaGraph, tenantConfigs, tokenWatch, events, audit, vault, log } = dependencies
  const accountsOf = createAccountSearch(dependencies)
  const callbacks = createCallbacks(dependencies)
  return { exchange, inspect, assets, store, subscribe, register, done }

  async function exchange ({ app, code, redirect_uri, record }: Execution, { saveToken }: Progress): Promise<void> {
    if (code === undefined) throw new Error('an exchange needs a code')
    const granted = await metaGraph.exchangeCode(app, { code, redirect_uri })
    await saveToken(vault.seal(granted.access_token, record.tenant_id, 'access_token'), granted.expires_at)
  }

  async function inspect (execution: Execution, { finish }: Progress): Promise<void> {
    const { app, record } = execution
    const inspected = await metaGraph.inspectToken(app, tokenOf(record))
    const { type, scopes, waba_ids, expires_at } = inspected
    // The exchange may leave the expiry out, debug_token does not: its null means never.
    const expiresAt = expires_at === undefined ? record.token_expires_at : expires_at
    const missing = NEEDED_SCOPES.filter((scope) => !scopes.includes(scope))
    if (missing.length > 0) {
      log.warn({ onboarding: record.id, missing }, 'the granted token lacks scopes; whether it works, the calls decide')
    }
    const evidence = { app_id: app.id, type, expires_at: expiresAt, scopes, missing_scopes: missing, waba_ids }
    execution.inspected = inspected
    await finish({ evidence, change: { token_expires_at: expiresAt } })
  }

  /** A tenant that logs in again keeps its number, unless a resumption names another one. */
  async function assets (execution: Execution, { finish }: Progress): Promise<void> {
    const { record } = execution
    const { waba_id: claimed, phone_number_id: wanted, chosen_phone_number_id: chosen } = record
    const present = await tenantConfigs.verifiedNumberOf(record.tenant_id)
    const accounts = await accountsOf(accessOf(execution), record, present)
    const { waba_id, phone } = chooseNumber(accounts, { wanted, chosen, present })
    const evidence = {
      waba_id,
      phone_number_id: phone?.id ?? null,
      is_discovered: claimed !== waba_id,
      has_phone_number: phone !== null,
      ...phone && { number: numberFacts(phone) }
    }
    await finish({ evidence, change: { waba_id, phone_number_id: phone?.id ?? null } })
  }

  async function store (execution: Execution, { finish }: Progress): Promise<void> {
    const { record, isUnattended = false } = execution
    const { tenant_id: tenantId, user_id: userId, phone_number_id: phoneNumberId } = record
    const number = stepOf(record, 'assets').evidence?.['number']
    const recorded: Array<TenantEvent | null> = []
    await tenantConfigs.saveOnboardedIdentity(tenantId, userId, identityOf(record), async (tx, { isNew, former }) => {
      // An identity that the tenant stored since its login is newer; only a request may replace it.
      const isOwn = former?.access_token === record.access_token
      if (isUnattended && !isOwn && !isSameIdentity(formerIdentity(former), record.former)) {
        throw new OnboardingSuperseded()
      }
      const left = former?.is_verified === true ? formerIdentity(former) : null
      const change = { former: left !== null && !isSameNumber(left, record) ? left : null }
      if (phoneNumberId !== null && Value.Check(NumberFacts, number)) {
        recorded.push(await tokenWatch.recordNumberIn(tx, tenantId, phoneNumberId, { id: phoneNumberId, ...number }))
      }
      await finish({ evidence: { is_new: isNew }, change }, tx)
      await supersedeOlder(tx, record)
      // With the change: the process may die before its request is recorded, and another one continues.
      const by = isUnattended ? bySystem : { ...bySystem, role: 'tenant' as const, actor: userId }
      await audit.record({ ...by, tenant_id: tenantId, action: 'onboarding.store', fields: STORED_FIELDS }, tx)
    })
    for (const event of recorded) if (event !== null) events.emit(event)
  }

  async function subscribe (execution: Execution, { finish }: Progress): Promise<void> {
    const { app, record } = execution
    const { tenant_id, former } = record
    const row = await tenantConfigs.find(tenant_id)
    const { waba_id, phone_number_id, access_token } = identityOf(record)
    // Another token was stored since; it may be for another account.
    if (row === null || row.access_token !== access_token) throw new OnboardingSuperseded()
    const sealed = callbackOf(row)
    const open = (verifyToken: string) => vault.open(verifyToken, tenant_id, 'verify_token')
    const callback = sealed && { ...sealed, verify_token: open(sealed.verify_token) }
    const number = { tenant_id, waba_id, phone_number_id }
    const scope = await callbacks.scopeOf(number)
    const level = await callbacks.setCallback(accessOf(execution), number, callback, scope)
    if (former !== null) {
      const isSameAccount = former.waba_id === waba_id
      const formerToken = () => vault.open(former.access_token, tenant_id, 'access_token')
      const token = isSameAccount ? () => tokenOf(record) : formerToken
      await callbacks.leave(app, token, { tenant_id, ...former }, isSameAccount)
    }
    const hasOwn = level === 'phone_number'
    const result = { evidence: { waba_id, callback: level }, change: { former: null } }
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

  async function register (execution: Execution, { finish }: Progress): Promise<void> {
    const { app, record, pin } = execution
    const { pin_given: isWanted, phone_number_id: phoneNumberId } = record
    // Source: developers.facebook.com/documentation/business-messaging/whatsapp/embedded-signup (coexistence)
    if (await isOnBusinessApp(execution)) {
      await finish({ status: 'skipped', evidence: { reason: 'on_business_app', is_on_biz_app: true } })
      return
    }
    if (!isWanted) {
      await finish({ status: 'skipped', evidence: { reason: 'no_pin' } })
      return
    }
    if (phoneNumberId === null) throw Object.assign(new MetaRegisterRefused(), { advice: advice.noNumber })
    if (pin === undefined) throw Object.assign(new MetaRegisterRefused(), { advice: advice.pinNeeded })
    await metaGraph.registerNumber(app, tokenOf(record), phoneNumberId, pin, identityOf(record).waba_id)
    await finish({ evidence: { phone_number_id: phoneNumberId } })
  }

  /** Whether the WhatsApp Business app uses the number too. Meta is asked when a former version did not record it. */
  async function isOnBusinessApp (execution: Execution): Promise<boolean> {
    const { record, pin } = execution
    const number = stepOf(record, 'assets').evidence?.['number']
    if (Value.Check(NumberFacts, number)) return number.is_on_biz_app === true
    if (pin === undefined || record.phone_number_id === null) return false
    const { app, token } = accessOf(execution)
    const phones = await metaGraph.listPhoneNumbers(app, token, identityOf(record).waba_id)
    return phones.some(({ id, is_on_biz_app: isOn }) => id === record.phone_number_id && isOn === true)
  }

  async function done (execution: Execution, { finish }: Progress): Promise<void> {
    const { app, record, isUnattended = false } = execution
    // An execution that resumes must check again that the token is valid.
    const { data_access_ends_at } = execution.inspected ?? await metaGraph.inspectToken(app, tokenOf(record))
    const { tenant_id, user_id } = record
    const identity = identityOf(record)
    const recorded: TenantEvent[] = []
    const config = await tenantConfigs.completeOnboarding(tenant_id, user_id, identity, async (tx) => {
      await finish({ evidence: {}, change: { status: 'completed', access_token: null, holder: null } }, tx)
      const values = { type: 'onboarding.completed', from: 'in_progress', to: 'completed', reason: null }
      recorded.push(await events.record(tx, { tenant_id, ...values }))
      if (isUnattended) await audit.record({ ...bySystem, tenant_id, action: 'onboarding.complete', fields: [] }, tx)
    })
    if (config === null) throw new OnboardingSuperseded()
    execution.config = config
    for (const event of recorded) events.emit(event)
    const finding = { valid: true, expires_at: config.token_expires_at, data_access_ends_at } as const
    await tokenWatch.record(config.tenant_id, identity.access_token, finding).catch((err: unknown) => {
      log.warn({ err, onboarding: record.id }, 'the state of a new token could not be noted; the next check will')
    })
  }

  function accessOf ({ app, record }: Execution): Access {
    return { app, token: tokenOf(record) }
  }

  function tokenOf (record: OnboardingRow): string {
    return vault.open(sealedTokenOf(record), record.tenant_id, 'access_token')
  }
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
