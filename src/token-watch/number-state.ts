import type { PhoneNumber } from '../meta/accounts.js'
import type { NumberStatus } from '../schemas/statuses.js'

/** The facts about a number that decide its state, as Meta tells them. */
export type NumberFacts = Pick<PhoneNumber, 'status' | 'quality_rating'>

/** The state before a finding, and the last one that an event reported. */
export interface PreviousNumber { number_status: NumberStatus, reported: NumberStatus | null }

export interface NextNumber {
  number_status: NumberStatus
  reported: NumberStatus | null
  /** The event to report; null for none. */
  event: { type: string, from: NumberStatus, reason: string | null } | null
}

/*
 * Meta's states of a number. All enums are open: any other value is `unknown`.
 * Source: developers.facebook.com/docs/graph-api/reference/whats-app-business-account-to-number-current-status
 */
const UNREGISTERED = ['PENDING', 'UNVERIFIED', 'DISCONNECTED']
const RESTRICTED = ['RESTRICTED', 'BANNED', 'RATE_LIMITED']
const GONE = ['MIGRATED', 'DELETED']

/** The states that break sending, and are reported. */
const TROUBLES: NumberStatus[] = ['low_quality', 'restricted', 'missing']
/** The states of a number that was registered at some time. */
const REGISTERED: NumberStatus[] = ['ok', 'low_quality', 'restricted']

/** Computes the state of a number from what Meta tells; null: the account does not have it. */
export function nextNumber (facts: NumberFacts | null, previous: PreviousNumber): NextNumber {
  const { number_status: before, reported } = previous
  const status = statusOf(facts, before)
  const reason = facts && numberReason({ number_status: status, ...facts })
  const event = (name: string) => ({ type: `number.${name}`, from: reported ?? before, reason })
  if (TROUBLES.includes(status)) {
    return { number_status: status, reported: status, event: reported === status ? null : event(status) }
  }
  const isRecovery = status === 'ok' && reported !== null && reported !== 'ok'
  if (isRecovery) return { number_status: status, reported: status, event: event('recovered') }
  return { number_status: status, reported, event: null }
}

/** Returns Meta's word for the state of a number; null when it has none. */
export function numberReason (
  { number_status: state, status, quality_rating: quality }: NumberFacts & { number_status: NumberStatus }
): string | null {
  if (state === 'low_quality') return quality === 'RED' ? quality : 'FLAGGED'
  // The facts of a missing number are earlier ones, unless Meta itself said that it is gone.
  const isWord = state === 'missing' ? GONE.includes(String(status)) : ['pending', 'restricted'].includes(state)
  return isWord ? status : null
}

function statusOf (facts: NumberFacts | null, before: NumberStatus): NumberStatus {
  if (facts === null) return 'missing'
  const { status, quality_rating: quality } = facts
  if (status !== null && GONE.includes(status)) return 'missing'
  if (status !== null && RESTRICTED.includes(status)) return 'restricted'
  // A new number is to be registered yet; one that could send before cannot any more.
  if (status !== null && UNREGISTERED.includes(status)) return REGISTERED.includes(before) ? 'restricted' : 'pending'
  if (status === 'FLAGGED' || quality === 'RED') return 'low_quality'
  return status === 'CONNECTED' ? 'ok' : 'unknown'
}
