import type { FastifyBaseLogger } from 'fastify'
import type { Database } from '../../database/database.js'
import type { TenantConfigRow } from '../../database/schema/tenant-configs.js'
import { onlyRow } from '../../database/statement.js'
import { CallbackUrlTooLong, isRefusal, MetaAppRejected, SecretUnreadable } from '../../errors.js'
import type { Callback } from '../../meta/accounts.js'
import type { MetaGraph } from '../../meta/meta-graph.js'
import type { MetaApp } from '../../meta/types.js'
import { callbackScopeQuery, savePhoneCallback, type CallbackScope, type TenantNumber } from './callback-scope.sql.js'

// developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/override
const MAX_CALLBACK_URL = 200

/** Returns the callback of the tenant, sealed; null without one. Throws `CALLBACK_URL_TOO_LONG`. */
export function callbackOf (row: TenantConfigRow | null): Callback | null {
  if (row?.callback_url == null || row.verify_token === null) return null
  if (row.callback_url.length > MAX_CALLBACK_URL) throw new CallbackUrlTooLong()
  return { callback_url: row.callback_url, verify_token: row.verify_token }
}

/** The app and the token, in clear, for calls about a tenant's account. */
export interface Access { app: MetaApp, token: string }

interface CallbackDependencies {
  database: Pick<Database, 'run' | 'count'>
  metaGraph: Pick<
    MetaGraph, 'subscriptionOf' | 'subscribeApp' | 'unsubscribeApp' | 'overrideCallback' | 'overridePhoneCallback'
  >
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
}

/** Sets the webhooks of a tenant's number at Meta, and ends those of a former number. */
export function createCallbacks ({ database, metaGraph, log }: CallbackDependencies) {
  return { scopeOf, setCallback, leave }

  async function scopeOf (number: TenantNumber): Promise<CallbackScope> {
    return onlyRow(await database.run(callbackScopeQuery(number)))
  }

  /**
   * Subscribes the account and sets the tenant's callback; the callbacks of other tenants stay. Returns the object
   * whose callback it set.
   */
  async function setCallback (
    { app, token }: Access, number: TenantNumber, callback: Callback | null, { is_shared, has_own }: CallbackScope
  ): Promise<'none' | 'account' | 'phone_number'> {
    const { tenant_id, waba_id: wabaId, phone_number_id: phoneNumberId } = number
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
      log.warn({ tenant_id },
        'this tenant has no callback for its number, whose messages go to that of an account it shares')
    }
    return 'none'
  }

  /**
   * Ends the webhooks of a number that the tenant had before: our app leaves its account, unless the tenant stays there
   * or another tenant has a verified number there; then only the number's own callback is removed. A refusal is logged:
   * the former token may be invalid, or another app's.
   *
   * @param tokenOf returns the token of the former number
   * @param isSameAccount whether the tenant's new number is on the same account
   */
  async function leave (
    app: MetaApp, tokenOf: () => string, former: TenantNumber, isSameAccount: boolean
  ): Promise<void> {
    const { tenant_id, waba_id: wabaId, phone_number_id: phoneNumberId } = former
    try {
      const token = tokenOf()
      const scope = await scopeOf(former)
      if (!isSameAccount && !scope.is_shared) {
        await metaGraph.unsubscribeApp(app, token, wabaId)
        // Another tenant may have moved onto the account meanwhile.
        if ((await scopeOf(former)).is_shared) await metaGraph.subscribeApp(app, token, wabaId)
      } else if (scope.has_own && phoneNumberId !== null) {
        await metaGraph.overridePhoneCallback(app, token, phoneNumberId, null, wabaId)
        await savePhoneCallback(database, phoneNumberId, false)
      }
      log.info({ tenant_id, waba_id: wabaId, phone_number_id: phoneNumberId },
        'ended the webhooks of a number that the tenant had before')
    } catch (err) {
      const isDefinite = isRefusal(err) || err instanceof MetaAppRejected || err instanceof SecretUnreadable
      if (!isDefinite) throw err
      log.warn({ err, tenant_id, waba_id: wabaId, phone_number_id: phoneNumberId },
        'could not end the webhooks of a number that the tenant had before')
    }
  }
}
