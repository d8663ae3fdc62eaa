import type { StaticDecode } from '@sinclair/typebox'
import { MetaPhoneNotInWaba, MetaWabaNotAccessible } from '../errors.js'
import type { GraphCalls } from './calls.js'
import { createPageReader } from './pages.js'
import { Callbacks, Done, PhoneNumber as Phone, Subscription } from './replies.js'
import type { Call, MetaApp } from './types.js'

/** A phone number of a WABA; a part that Meta leaves out is null. All enums are open. */
export type PhoneNumber = StaticDecode<typeof Phone>

/** The URL for webhooks, and the token by which the server there recognises Meta. */
export interface Callback { callback_url: string, verify_token: string }

const PHONE_FIELDS = 'id,display_phone_number,verified_name,is_on_biz_app,platform_type,quality_rating,status'

/**
 * The calls about a WABA or a phone number, with a customer's token. The `account` of a phone number is its WABA, whose
 * limits the call counts against.
 *
 * @throws by every call: MetaTokenInvalid, MetaPermissionMissing, MetaAppRejected, MetaRateLimited, MetaUnavailable,
 * MetaTimeout, MetaUnexpectedReply; for a WABA MetaWabaNotAccessible; for a phone number MetaPhoneNotInWaba
 */
export function createAccountCalls (calls: GraphCalls) {
  const { send, pathSegment } = calls
  const allPages = createPageReader(calls)

  return {
    listPhoneNumbers,
    subscribeApp,
    overrideCallback,
    overridePhoneCallback,
    subscriptionOf,
    unsubscribeApp,
    effectiveCallback,
    registerNumber
  }

  /**
   * Lists the phone numbers of a WABA, which shows that the token sees it. All pages share the timeout of one call.
   * Source: developers.facebook.com/docs/graph-api/reference/whats-app-business-account/phone_numbers
   *
   * @param app undefined to ask with the token alone
   * @param signal the timeout of several calls together
   */
  async function listPhoneNumbers (
    app: MetaApp | undefined, token: string, wabaId: string, signal?: AbortSignal
  ): Promise<PhoneNumber[]> {
    const call: Call = { name: 'phone_numbers', subject: 'customer' }
    const path = `${pathSegment(call, wabaId, MetaWabaNotAccessible)}/phone_numbers`
    const query = { fields: PHONE_FIELDS, limit: '100' }
    return await allPages({ ...call, app, account: wabaId, token, method: 'GET', path, query, signal }, Phone)
  }

  /**
   * Subscribes the app to the webhooks of a WABA. A repetition is harmless, but clears an override.
   * Source: developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/override, as for the four below
   */
  async function subscribeApp (app: MetaApp, token: string, wabaId: string): Promise<void> {
    const call: Call = { name: 'subscribe_app', subject: 'customer' }
    await send({ ...call, app, account: wabaId, token, method: 'POST', path: subscribedApps(call, wabaId) }, Done)
  }

  /**
   * Sets the callback of a WABA, which must echo Meta's challenge during this call. Needs `subscribeApp` before.
   *
   * @param callback.callback_url https, at most 200 characters
   * @throws MetaCallbackRefused
   */
  async function overrideCallback (app: MetaApp, token: string, wabaId: string, callback: Callback): Promise<void> {
    const call: Call = { name: 'override_callback', subject: 'override' }
    const form = { override_callback_uri: callback.callback_url, verify_token: callback.verify_token }
    await send({ ...call, app, account: wabaId, token, method: 'POST', path: subscribedApps(call, wabaId), form }, Done)
  }

  /**
   * Sets the callback of one phone number, which takes precedence over its WABA's; null removes it.
   *
   * @throws MetaCallbackRefused, and MetaWabaNotAccessible where the token does not see the number
   */
  async function overridePhoneCallback (
    app: MetaApp, token: string, phoneNumberId: string, callback: Callback | null, account?: string
  ): Promise<void> {
    const call: Call = { name: 'override_phone_callback', subject: 'override' }
    const path = pathSegment(call, phoneNumberId, MetaPhoneNotInWaba)
    const override = callback === null
      ? { override_callback_uri: '' }
      : { override_callback_uri: callback.callback_url, verify_token: callback.verify_token }
    await send({ ...call, app, account, token, method: 'POST', path, json: { webhook_configuration: override } }, Done)
  }

  /** Returns the subscription of the app to a WABA, with its override; null without one. */
  async function subscriptionOf (
    app: MetaApp, token: string, wabaId: string
  ): Promise<{ override_callback_uri: string | null } | null> {
    const call: Call = { name: 'subscribed_apps', subject: 'customer' }
    const path = subscribedApps(call, wabaId)
    const subscriptions = await allPages({ ...call, app, account: wabaId, token, method: 'GET', path }, Subscription)
    const ours = subscriptions.find((subscription) => subscription.whatsapp_business_api_data?.id === app.id)
    return ours ? { override_callback_uri: ours.override_callback_uri || null } : null
  }

  /** Ends the webhooks of a WABA for the app. Unlike the other calls it may come before a check of the token. */
  async function unsubscribeApp (app: MetaApp, token: string, wabaId: string): Promise<void> {
    const call: Call = { name: 'unsubscribe_app', subject: 'customer' }
    const path = subscribedApps(call, wabaId)
    await send({ ...call, app, account: wabaId, token, isTokenUnchecked: true, method: 'DELETE', path }, Done)
  }

  /** Returns the callback of a phone number: its own, else the WABA's, else the app's; null without any. */
  async function effectiveCallback (
    app: MetaApp, token: string, phoneNumberId: string, account?: string
  ): Promise<string | null> {
    const call: Call = { name: 'webhook_configuration', subject: 'phone' }
    const path = pathSegment(call, phoneNumberId, MetaPhoneNotInWaba)
    const query = { fields: 'webhook_configuration' }
    const reply = await send({ ...call, app, account, token, method: 'GET', path, query }, Callbacks)
    const callbacks = reply.webhook_configuration
    return callbacks?.phone_number || callbacks?.whatsapp_business_account || callbacks?.application || null
  }

  /**
   * Registers a phone number for the Cloud API. A repetition with the same PIN is harmless, but Meta allows 10 calls in
   * 72 hours.
   * Source: developers.facebook.com/documentation/business-messaging/whatsapp/reference (register)
   *
   * @param pin six digits: the two-step verification PIN of the number, or a new one if it has none
   * @throws MetaRegisterRefused, with the advice of its case
   */
  async function registerNumber (
    app: MetaApp, token: string, phoneNumberId: string, pin: string, account?: string
  ): Promise<void> {
    const call: Call = { name: 'register', subject: 'register' }
    const path = `${pathSegment(call, phoneNumberId, MetaPhoneNotInWaba)}/register`
    const json = { messaging_product: 'whatsapp', pin }
    await send({ ...call, app, account, token, method: 'POST', path, json }, Done)
  }

  function subscribedApps (call: Call, wabaId: string): string {
    return `${pathSegment(call, wabaId, MetaWabaNotAccessible)}/subscribed_apps`
  }
}
