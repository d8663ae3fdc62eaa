import { createErrorByCode, MetaUnavailable, OnboardingSuperseded } from '../errors.js'
import { type OnboardingRow, type Step, type StepError } from '../database/schema.js'
import { isoFromMs } from '../schemas/timestamps.js'
import type { StepName } from '../schemas/statuses.js'
import { stepNames } from '../schemas/statuses.js'

/** The steps of an onboarding that has not begun. */
export const newSteps = (): Step[] => stepNames.map((name) => ({ name, status: 'pending', attempts: 0, at: null, evidence: null, error: null }))

/** One step of a record. */
export function stepOf ({ steps }: Pick<OnboardingRow, 'steps'>, name: StepName): Step {
  const step = steps.find((step) => step.name === name)
  if (step === undefined) throw new Error(`an onboarding has no step ${name}`)
  return step
}

/** The steps with one of them changed, now. */
export const withStep = (steps: Step[], name: StepName, change: Partial<Step>): Step[] =>
  steps.map((step) => step.name === name ? { ...step, ...change, at: isoFromMs(Date.now()) } : step)

/** The steps as clients read them: those of earlier versions hold times with three digits. */
export const shownSteps = (steps: Step[]): Step[] => steps.map(({ at, evidence, ...step }) => ({
  ...step,
  at: at && sixDigits(at),
  evidence: typeof evidence?.['expires_at'] === 'string' ? { ...evidence, expires_at: sixDigits(evidence['expires_at']) } : evidence
}))

const sixDigits = (time: string) => isoFromMs(Date.parse(time))

/** The steps with one of them under way again. */
export const withStepBegun = (steps: Step[], name: StepName): Step[] =>
  withStep(steps, name, { status: 'pending', attempts: stepOf({ steps }, name).attempts + 1, error: null })

/** The steps with one of them and all after it open again; what was tried before still counts. */
export const withStepsReopened = (steps: Step[], name: StepName): Step[] =>
  steps.map((step, index) => index < stepNames.indexOf(name) ? step : { ...step, status: 'pending', evidence: null, error: null })

/** Says whether a step needs nothing more. */
export const isFinished = ({ status }: Step): boolean => status === 'done' || status === 'skipped'

/** The step that keeps an onboarding from going on; undefined when none failed. */
export const failedStep = ({ steps }: Pick<OnboardingRow, 'steps'>): Step | undefined => steps.find(({ status }) => status === 'failed')

// Only a new login helps, so these end an onboarding. What else goes wrong may go right another time.
const FINAL = new Set(['META_TOKEN_INVALID', 'ONBOARDING_SUPERSEDED'])
// These too, until the credentials that were granted are the ones that serve.
const FINAL_BEFORE_STORE = new Set(['META_WABA_NOT_ACCESSIBLE', 'META_PERMISSION_MISSING'])

// A block and a lock of Meta's own, which come as one of these; a review there may lift them.
const REVIEWABLE = new Set([368, 131031])

// Of a code, Meta's own failures have a code of Meta's, and lost answers are META_EXCHANGE_UNKNOWN.
const NEVER_SENT = new Set(['META_UNAVAILABLE', 'META_TIMEOUT', 'META_RATE_LIMITED'])

// A client that sends its request once more after one of these wants it to go on, and Meta has refused nothing.
const PASSING = new Set(['META_UNAVAILABLE', 'META_TIMEOUT', 'META_UNEXPECTED_REPLY', 'DATABASE_UNAVAILABLE', 'INTERNAL'])

/** Whether Meta refused nothing where a step failed: a limit without a code of Meta's kept the call from being made. */
export function isTransient ({ code, meta_code: metaCode }: StepError): boolean {
  return PASSING.has(code) || (code === 'META_RATE_LIMITED' && metaCode === null)
}

/** Says whether what a step failed with ends the onboarding: of an exchange, all but a code that never got to Meta. */
export function isFinal ({ name, error }: Pick<Step, 'name' | 'error'>): boolean {
  if (name === 'exchange') return error === null || error.meta_code !== null || !NEVER_SENT.has(error.code)
  if (error === null || REVIEWABLE.has(Number(error.meta_code))) return false
  return FINAL.has(error.code) || (FINAL_BEFORE_STORE.has(error.code) && stepNames.indexOf(name) < stepNames.indexOf('store'))
}

/** Says whether the code was on its way to Meta when it was last written down what is done: whether it arrived, nobody knows. */
export function isCodeUnderWay (record: Pick<OnboardingRow, 'steps'>): boolean {
  const { status, attempts } = stepOf(record, 'exchange')
  return status === 'pending' && attempts > 0
}

/** What an onboarding that needs something more is given. */
export interface ResumeInput { phone_number_id?: string | undefined, pin?: string | undefined }

/** What a resumption changes of a record: another number has to be proven and stored first. */
export function resumeChange (record: OnboardingRow, { phone_number_id: phoneNumberId, pin }: ResumeInput): Partial<OnboardingRow> {
  const isOther = phoneNumberId !== undefined && phoneNumberId !== record.phone_number_id
  // A number that was not there before may be by now.
  const isMissing = record.phone_number_id === null && isFinished(stepOf(record, 'assets'))
  // The other number may be of another account that the token was granted for.
  const found = stepOf(record, 'assets').evidence?.['is_discovered'] === true ? { waba_id: null } : {}
  return {
    ...(isOther || isMissing ? { ...found, phone_number_id: phoneNumberId ?? null, steps: withStepsReopened(record.steps, 'assets') } : {}),
    ...(pin === undefined ? {} : { pin_given: true })
  }
}

/** Says whether a completed onboarding lacks what a resumption asks for: another number, the first one, or its registration. */
export function lacksRequested (record: OnboardingRow, { phone_number_id: phoneNumberId, pin }: ResumeInput): boolean {
  const isOther = phoneNumberId !== undefined && phoneNumberId !== record.phone_number_id
  return isOther || record.phone_number_id === null || (pin !== undefined && stepOf(record, 'register').status === 'skipped')
}

/** The error that a step failed with; without a step, or one that has none, the one for a record that was ended from outside, or has not begun. */
export function stepFailure (step: Step | undefined): Error {
  if (step === undefined) return new OnboardingSuperseded()
  const error = createErrorByCode(step.error?.code ?? '') ?? new MetaUnavailable()
  return Object.assign(error, { advice: step.error?.advice }, step.evidence)
}
