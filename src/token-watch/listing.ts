import { isRefusal, MetaAppRejected, MetaWabaNotAccessible } from '../errors.js'
import type { PhoneNumber } from '../meta/accounts.js'
import { retryDelay, unconfirmedDelay } from './retries.js'

/** The phone numbers of a tenant's account, or the error of the call to list them; null: there was no call. */
export type Listing = PhoneNumber[] | Error | null

/** Whether a listing confirms the identity: the token sees the account, and the account has the number, if any. */
export function confirmsIdentity (listing: Listing, phoneNumberId: string | null): boolean {
  return Array.isArray(listing) && (phoneNumberId === null || listing.some(({ id }) => id === phoneNumberId))
}

/** Returns what a listing tells about a number; null: the account does not have it; undefined: nothing. */
export function phoneIn (listing: Listing, phoneNumberId: string): PhoneNumber | null | undefined {
  if (listing instanceof MetaWabaNotAccessible) return null
  return Array.isArray(listing) ? listing.find(({ id }) => id === phoneNumberId) ?? null : undefined
}

/** Milliseconds until Meta is asked again after a listing that does not confirm the identity; Infinity: as usual. */
export function unverifiedDelay (listing: Listing, rowUpdatedAt: string, now: number, interval: number): number {
  // An app may demand proofs: a call with the token alone is rejected then.
  const isPassing = listing instanceof Error && !isRefusal(listing) && !(listing instanceof MetaAppRejected)
  return isPassing ? retryDelay(listing, false, interval) : unconfirmedDelay(rowUpdatedAt, now, interval)
}
