import { type Static, type TSchema, Type } from '@sinclair/typebox'
import { type ErrorClass, MetaPhoneNotInWaba, MetaUnexpectedReply, MetaWabaNotAccessible } from '../errors.js'
import { maybe } from '../schemas/fields.js'
import type { GraphCalls } from './calls.js'
import type { Call, GraphRequest, MetaApp } from './types.js'

/** A phone number of a WABA. */
export interface PhoneNumber { id: string, display_phone_number: string | null, verified_name: string | null }

/** Where webhooks are to go, and what Meta shows there to be let in. */
export interface Callback { callback_url: string, verify_token: string }

const MAX_PAGES = 50

const Page = <T extends TSchema>(item: T) => Type.Object({
  data: Type.Array(item),
  paging: maybe(Type.Object({
    cursors: maybe(Type.Object({ after: maybe(Type.String()) })),
    next: maybe(Type.String())
  }))
})
const Phones = Page(Type.Object({ id: Type.String(), display_phone_number: maybe(Type.String()), verified_name: maybe(Type.String()) }))
const Subscriptions = Page(Type.Object({
  whatsapp_business_api_data: maybe(Type.Object({ id: maybe(Type.String()) })),
  override_callback_uri: maybe(Type.String())
}))
const Callbacks = Type.Object({
  id: Type.String(),
  webhook_configuration: maybe(Type.Object({
    phone_number: maybe(Type.String()),
    whatsapp_business_account: maybe(Type.String()),
    application: maybe(Type.String())
  }))
})
const Done = Type.Object({ success: Type.Literal(true) })

/**
 * The calls that a customer's token opens: what hangs on a WABA and on a phone number. Besides what each one says, all of
 * them throw MetaTokenInvalid, MetaPermissionMissing, MetaAppRejected, MetaRateLimited, MetaUnavailable, MetaTimeout and
 * MetaUnexpectedReply; those of a WABA MetaWabaNotAccessible, and those of a phone number MetaPhoneNotInWaba. The
 * `account` of a phone number is its WABA, whose limits the call counts against.
 */
export function createAccountCalls ({ send, failCall, timeoutSignal }: GraphCalls) {
  return { listPhoneNumbers, subscribeApp, overrideCallback, overridePhoneCallback, subscriptionOf, unsubscribeApp, effectiveCallback, registerNumber }

  /**
   * Lists the phone numbers of a WABA, and so proves that the token sees it. All pages together have the time of one call.
   * Source: developers.facebook.com/docs/graph-api/reference/whats-app-business-account/phone_numbers
   *
   * @param app undefined to ask with the token alone
   * @param signal the limit of several calls together
   */
  async function listPhoneNumbers (
    app: MetaApp | undefined, token: string, wabaId: string, signal?: AbortSignal
  ): Promise<PhoneNumber[]> {
    const call: Call = { name: 'phone_numbers', subject: 'customer' }
    const path = `${pathSegment(call, wabaId, MetaWabaNotAccessible)}/phone_numbers`
    const query = { fields: 'id,display_phone_number,verified_name', limit: '100' }
    const phones = await allPages({ ...call, app, account: wabaId, token, method: 'GET', path, query, signal }, Phones)
    return phones.map(({ id, display_phone_number = null, verified_name = null }) => ({ id, display_phone_number, verified_name }))
  }

  /**
   * Subscribes the app to the webhooks of a WABA; again is harmless, but clears an override.
   * Source: developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/override, as for the four below
   */
  async function subscribeApp (app: MetaApp, token: string, wabaId: string): Promise<void> {
    const call: Call = { name: 'subscribe_app', subject: 'customer' }
    await send({ ...call, app, account: wabaId, token, method: 'POST', path: subscribedApps(call, wabaId) }, Done)
  }

  /**
   * Has the messages of a WABA sent to a callback of its own, which must echo Meta's challenge while this waits.
   * Needs `subscribeApp` before.
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
   * The same for the messages of one phone number alone, whatever its WABA has; null takes the callback of the number away.
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

  /** The subscription of the app to a WABA, with its override; null when there is none. */
  async function subscriptionOf (app: MetaApp, token: string, wabaId: string): Promise<{ override_callback_uri: string | null } | null> {
    const call: Call = { name: 'subscribed_apps', subject: 'customer' }
    const path = subscribedApps(call, wabaId)
    const subscriptions = await allPages({ ...call, app, account: wabaId, token, method: 'GET', path }, Subscriptions)
    const ours = subscriptions.find((subscription) => subscription.whatsapp_business_api_data?.id === app.id)
    return ours ? { override_callback_uri: ours.override_callback_uri || null } : null
  }

  /** Ends the webhooks of a WABA for the app. Unlike the other calls it needs no check before that the token is the app's. */
  async function unsubscribeApp (app: MetaApp, token: string, wabaId: string): Promise<void> {
    const call: Call = { name: 'unsubscribe_app', subject: 'customer' }
    const path = subscribedApps(call, wabaId)
    await send({ ...call, app, account: wabaId, token, isTokenUnchecked: true, method: 'DELETE', path }, Done)
  }

  /** Where Meta sends the messages of a phone number: the callback of the number, else the WABA's, else the app's; null: nowhere. */
  async function effectiveCallback (
    app: MetaApp, token: string, phoneNumberId: string, account?: string
  ): Promise<string | null> {
    const call: Call = { name: 'webhook_configuration', subject: 'phone' }
    const path = pathSegment(call, phoneNumberId, MetaPhoneNotInWaba)
    const query = { fields: 'webhook_configuration' }
    const { webhook_configuration: of } = await send({ ...call, app, account, token, method: 'GET', path, query }, Callbacks)
    return of?.phone_number || of?.whatsapp_business_account || of?.application || null
  }

  /**
   * Registers a phone number for the Cloud API; again with the same PIN is harmless, but Meta allows 10 calls in 72 hours.
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
    await send({ ...call, app, account, token, method: 'POST', path, json: { messaging_product: 'whatsapp', pin } }, Done)
  }

  function subscribedApps (call: Call, wabaId: string): string {
    return `${pathSegment(call, wabaId, MetaWabaNotAccessible)}/subscribed_apps`
  }

  /** An id as one step of a path. */
  function pathSegment (call: Call, id: string, throws: ErrorClass): string {
    // No encoding saves these from being read as a way up the path.
    if (/^\.{0,2}$/.test(id)) throw failCall(call, { throws }, { sent: false })
    return encodeURIComponent(id)
  }

  /** The items of all pages. */
  async function allPages<T extends TSchema> (request: GraphRequest, schema: ReturnType<typeof Page<T>>): Promise<Static<T>[]> {
    const items: Static<T>[] = []
    const { signal = timeoutSignal() } = request
    let after: string | undefined
    for (let page = 0; page < MAX_PAGES; page++) {
      const { data, paging } = await send({ ...request, query: { ...request.query, ...(after && { after }) }, signal }, schema)
      items.push(...data)
      // `after` is there on the last page too; `next` is not. It carries the token, and is never followed.
      if (paging?.next == null) return items
      const last = after
      after = paging.cursors?.after ?? undefined
      if (!after || after === last) break
    }
    throw failCall(request, { throws: MetaUnexpectedReply }, { sent: true, status: 200 })
  }
}
