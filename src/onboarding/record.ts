import type { OnboardingRow, Step, StepError } from '../database/schema/onboardings.js'
import { createErrorByCode, MetaUnavailable, OnboardingSuperseded } from '../errors.js'
import { stepNames, type StepName } from '../schemas/statuses.js'
import { isoFromMs } from '../schemas/timestamps.js'

/** The steps of an onboarding that has not begun. */
export const newSteps = (): Step[] => stepNames.map((name) =>
  ({ name, status: 'pending', attempts: 0, at: null, evidence: null, error: null }))

/** One step of a record. */
export function stepOf ({ steps }: Pick<OnboardingRow, 'steps'>, name: StepName): Step {
  const step = steps.find((step) => step.name === name)
  if (step === undefined) throw new Error(`an onboarding has no step ${name}`)
  return step
}

/** The steps with one of them changed at this moment. */
export const withStep = (steps: Step[], name: StepName, change: Partial<Step>): Step[] =>
  steps.map((step) => step.name === name ? { ...step, ...change, at: isoFromMs(Date.now()) } : step)

/** The steps as clients read them: earlier versions stored times with three fractional digits. */
export const shownSteps = (steps: Step[]): Step[] => steps.map(({ at, evidence, ...step }) => {
  const expiresAt = evidence?.['expires_at']
  return {
    ...step,
    at: at && sixDigits(at),
    evidence: typeof expiresAt === 'string' ? { ...evidence, expires_at: sixDigits(expiresAt) } : evidence
  }
})

const sixDigits = (time: string) => isoFromMs(Date.parse(time))

/** The steps with a new attempt of one of them begun. */
export const withStepBegun = (steps: Step[], name: StepName): Step[] =>
  withStep(steps, name, { status: 'pending', attempts: stepOf({ steps }, name).attempts + 1, error: null })

/** The steps with one of them and all after it pending again; their attempts stay. */
export const withStepsReopened = (steps: Step[], name: StepName): Step[] => steps.map((step, index) =>
  index < stepNames.indexOf(name) ? step : { ...step, status: 'pending', evidence: null, error: null })

/** Whether a step is done or skipped. */
export const isFinished = ({ status }: Step): boolean => status === 'done' || status === 'skipped'

/** The failed step; undefined without one. */
export const failedStep = ({ steps }: Pick<OnboardingRow, 'steps'>): Step | undefined =>
  steps.find(({ status }) => status === 'failed')

// These end an onboarding: only a new login helps. After other errors a retry may succeed.
const FINAL = new Set(['META_TOKEN_INVALID', 'ONBOARDING_SUPERSEDED'])
// These end it too, until the granted credentials are stored.
const FINAL_BEFORE_STORE = new Set(['META_WABA_NOT_ACCESSIBLE', 'META_PERMISSION_MISSING'])

// Meta's codes of a policy block and of a locked account: a review at Meta may lift them.
const REVIEWABLE = new Set([368, 131031])

// At the exchange these, without a code of Meta's, come from before the call; a lost answer is META_EXCHANGE_UNKNOWN.
const NEVER_SENT = new Set(['META_UNAVAILABLE', 'META_TIMEOUT', 'META_RATE_LIMITED'])

// Meta has refused nothing, so a repeated request continues the onboarding.
const TRANSIENT = new Set([
  'META_UNAVAILABLE', 'META_TIMEOUT', 'META_UNEXPECTED_REPLY', 'DATABASE_UNAVAILABLE', 'INTERNAL'
])

/** Whether a step failed without a refusal of Meta's. A limit without a code of Meta's prevented the call. */
export function isTransient ({ code, meta_code: metaCode }: StepError): boolean {
  return TRANSIENT.has(code) || (code === 'META_RATE_LIMITED' && metaCode === null)
}

type FailedStep = Pick<Step, 'name' | 'error'>

/**
 * Whether the failure of a step ends the onboarding. At the exchange only an unsent code does not. An account that a
 * resumption names may be replaced by another.
 */
export function isFinal ({ name, error }: FailedStep, record: Pick<OnboardingRow, 'chosen_waba_id'>): boolean {
  if (name === 'exchange') return error === null || error.meta_code !== null || !NEVER_SENT.has(error.code)
  if (error === null || REVIEWABLE.has(Number(error.meta_code))) return false
  const isBeforeStore = stepNames.indexOf(name) < stepNames.indexOf('store')
  return FINAL.has(error.code) ||
    (isBeforeStore && record.chosen_waba_id === null && FINAL_BEFORE_STORE.has(error.code))
}

/** Whether a failed step is retried without a request. A registration needs its PIN, which is not stored. */
export function isRetried ({ name, error }: FailedStep, record: Pick<OnboardingRow, 'access_token'>): boolean {
  if (error === null || record.access_token === null || name === 'register') return false
  return isTransient(error) || error.code === 'META_RATE_LIMITED'
}

/** The evidence of a step that was retried as long as a step may be. */
export const RETRIES_ENDED = { retries_ended: true }

/** Whether a failed step is why its onboarding failed; else something newer ended it. */
export function isEnd (step: Step, record: Pick<OnboardingRow, 'chosen_waba_id'>): boolean {
  return isFinal(step, record) || step.evidence?.['retries_ended'] === true
}

// The value that a resumption must bring after an error. After any other error somebody must correct its cause.
const AWAITED: Record<string, string> = {
  META_PHONE_CHOICE_REQUIRED: 'phone_number_id',
  META_NUMBER_CHANGED: 'phone_number_id',
  META_PHONE_NOT_IN_WABA: 'phone_number_id',
  META_ACCOUNT_REQUIRED: 'waba_id',
  META_WABA_NOT_ACCESSIBLE: 'waba_id',
  META_CALLBACK_REFUSED: 'callback_url',
  CALLBACK_URL_TOO_LONG: 'callback_url'
}

/** The thing that an onboarding waits for after a failed step: the name of a value, else the code of the error. */
export const awaited = (name: StepName, code: string): string => name === 'register' ? 'pin' : AWAITED[code] ?? code

/** Whether the record ends with a code on its way to Meta, which may have arrived. */
export function isCodeUnderWay (record: Pick<OnboardingRow, 'steps'>): boolean {
  const { status, attempts } = stepOf(record, 'exchange')
  return status === 'pending' && attempts > 0
}

/** The values that a resumption adds to an onboarding; a `pin` of null takes the wish for a registration back. */
export interface ResumeInput {
  waba_id?: string | undefined
  phone_number_id?: string | undefined
  pin?: string | null | undefined
}

/**
 * Returns the change of a record at its resumption: another account or number must be verified and stored first. What
 * the resumption names is deliberate, and so may replace the number that the tenant has.
 */
export function resumeChange (
  record: OnboardingRow, { waba_id: wabaId, phone_number_id: phoneNumberId, pin }: ResumeInput
): Partial<OnboardingRow> {
  const change = {
    ...(pin === undefined ? {} : { pin_given: pin !== null }),
    ...(wabaId === undefined ? {} : { chosen_waba_id: wabaId }),
    ...(phoneNumberId === undefined ? {} : { chosen_phone_number_id: phoneNumberId })
  }
  const assets = stepOf(record, 'assets')
  const isOtherAccount = wabaId !== undefined && wabaId !== record.waba_id
  const isOther = phoneNumberId !== undefined && phoneNumberId !== record.phone_number_id
  // The account had no number; one may have been added since.
  const isMissing = record.phone_number_id === null && isFinished(assets)
  if (!isOtherAccount && !isOther && !isMissing) return change
  // The other number may belong to another account of the token.
  const isDiscovered = assets.evidence?.['is_discovered'] === true
  // The number of a finished step belongs to the account before.
  const kept = isOtherAccount && !isFinished(assets) ? record.phone_number_id : null
  return {
    ...(isOtherAccount ? { waba_id: wabaId } : isDiscovered ? { waba_id: null } : {}),
    phone_number_id: phoneNumberId ?? kept,
    steps: withStepsReopened(record.steps, 'assets'),
    ...change
  }
}

/**
 * Whether a completed onboarding lacks a number, or the account, number or registration that a resumption asks for.
 */
export function lacksRequested (
  record: OnboardingRow, { waba_id: wabaId, phone_number_id: phoneNumberId, pin }: ResumeInput
): boolean {
  const isOtherAccount = wabaId !== undefined && wabaId !== record.waba_id
  const isOther = phoneNumberId !== undefined && phoneNumberId !== record.phone_number_id
  const lacksRegistration = pin != null && stepOf(record, 'register').status === 'skipped'
  return isOtherAccount || isOther || record.phone_number_id === null || lacksRegistration
}

/**
 * Restores the error of a step: `META_UNAVAILABLE` for one without an error, `ONBOARDING_SUPERSEDED` without a step.
 */
export function stepFailure (step: Step | undefined): Error {
  if (step === undefined) return new OnboardingSuperseded()
  const error = createErrorByCode(step.error?.code ?? '') ?? new MetaUnavailable()
  return Object.assign(error, { advice: step.error?.advice }, step.evidence)
}
