import type { accountStates } from '../database/schema/tenant-configs.js'
import type { AccountStatus } from '../schemas/statuses.js'
import type { AccountUpdate, UpdateKind } from './delivery.js'

/** The state of a tenant's account. `acted_at` is in Unix seconds. */
export interface AccountState
  extends Pick<typeof accountStates.$inferSelect, 'status' | 'event' | 'reason' | 'initiated_by' | 'turned_off'> {
  acted_at: number | null
}

/** A tenant before the updates. `onboarded_at` is in Unix seconds. */
export interface TenantState extends AccountState { is_active: boolean, onboarded_at: number | null }

/** An event to report. */
export interface Transition { type: string, from: AccountStatus, to: AccountStatus, reason: string }

/** The change of a tenant by updates. */
export interface AccountChange {
  state: AccountState
  /** Whether a live check of the resumption is due now. */
  isResumptionDue: boolean
  turnsOff: boolean
  /** The event of the last loss, which makes the token invalid; null without a loss. */
  lossEvent: string | null
  transitions: Transition[]
}

// Meta's clock may differ from ours.
const CLOCK_SKEW_S = 5

type Next = AccountState & { is_active: boolean, isResumptionDue: boolean }

/** Applies updates about a tenant, in their order. Returns null when all are older than its state. */
export function applyUpdates (tenant: TenantState, updates: AccountUpdate[]): AccountChange | null {
  const { onboarded_at: onboardedAt, ...before } = tenant
  let next: Next = { ...before, isResumptionDue: false }
  let lossEvent: string | null = null
  let isChanged = false
  const transitions: Transition[] = []
  for (const update of updates) {
    if (isOutdated(update, next.acted_at, onboardedAt)) continue
    const { status: from, is_active: wasActive } = next
    next = { ...RULES[update.kind](next, update), acted_at: update.at ?? next.acted_at }
    isChanged = true
    if (update.kind === 'lost') lossEvent = update.event
    // A tenant that a person turned off is not suspended by the update.
    if (next.status !== from && (next.status === 'lost' || wasActive)) {
      transitions.push({ type: `account.${next.status}`, from, to: next.status, reason: update.reason ?? update.event })
    }
  }
  if (!isChanged) return null
  const { is_active: isActive, isResumptionDue, ...state } = next
  const turnsOff = lossEvent !== null || isActive !== tenant.is_active
  return { state, isResumptionDue, turnsOff, lossEvent, transitions }
}

/** An update without a time always counts. */
function isOutdated ({ at }: AccountUpdate, actedAt: number | null, onboardedAt: number | null): boolean {
  return at !== null && (at < (actedAt ?? 0) || at < (onboardedAt ?? 0) - CLOCK_SKEW_S)
}

const told = ({ event, reason, initiatedBy }: AccountUpdate) => ({ event, reason, initiated_by: initiatedBy })

const RULES: Record<UpdateKind, (state: Next, update: AccountUpdate) => Next> = {
  lost: (state, update) =>
    ({ ...state, ...told(update), status: 'lost', turned_off: false, is_active: false, isResumptionDue: false }),

  suspended: (state, update) => state.status === 'lost'
    ? state
    : {
        ...state,
        ...told(update),
        status: 'suspended',
        turned_off: state.is_active || state.turned_off,
        is_active: false,
        isResumptionDue: false
      },

  resumed (state, update) {
    if (state.status !== 'suspended') return state
    if (!state.turned_off) return { ...state, ...told(update), status: 'ok' }
    // Until the check, the tenant shows why it was suspended.
    return { ...state, reason: state.reason ?? state.event, event: update.event, isResumptionDue: true }
  }
}
