import { stepNames, type StepName } from '../../../src/schemas/statuses.js'
import type { Route } from '../../graph/faults.js'

/** The calls of each step of an onboarding, if the tenant has its own callback and a PIN is given. */
const callsOfStep: Record<StepName, Route[]> = {
  exchange: ['access_token'],
  inspect: ['debug_token'],
  assets: ['phone_numbers'],
  store: [],
  subscribe: ['subscribe', 'override'],
  register: ['register'],
  done: []
}

/** The step that makes a call. */
export const stepOfCall = (route: Route): StepName =>
  stepNames.find((step) => callsOfStep[step].includes(route)) ?? 'exchange'

/** The calls of the steps from `first` to `last`, both included. */
export const callsFrom = (first: StepName, last: StepName = 'done'): Route[] =>
  stepNames.slice(stepNames.indexOf(first), stepNames.indexOf(last) + 1).flatMap((step) => callsOfStep[step])

export const allCalls = callsFrom('exchange')

/**
 * The calls of an execution that continues at a step. If it does not inspect the token as a step, it inspects it again
 * before it verifies the identity.
 */
export const callsOfContinuation = (next: StepName): Route[] => [
  ...callsFrom(next),
  ...(stepNames.indexOf(next) > stepNames.indexOf('inspect') ? ['debug_token' as const] : [])
]
