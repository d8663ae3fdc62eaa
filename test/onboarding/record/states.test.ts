import t from '../../run/tap.js'
import type { OnboardingRow, Step, StepError } from '../../../src/database/schema/onboardings.js'
import type { StepName } from '../../../src/schemas/statuses.js'
import {
  withStepBegun, stepFailure, failedStep, isCodeUnderWay, isFinal, isFinished, isTransient, lacksRequested, newSteps,
  withStepsReopened, resumeChange, shownSteps, stepOf, withStep
} from '../../../src/onboarding/record.js'
import { stepNames } from '../../../src/schemas/statuses.js'

const refused = (code: string, meta_code: number | null = null): StepError => ({
  code,
  meta_code,
  meta_subcode: null,
  fbtrace_id: null,
  advice: `Advice of ${code}.`
})

/** A record as read from PostgreSQL, with the steps in `done` done and the rest pending. */
function recordWith (done: StepName[], change: Partial<OnboardingRow> = {}): OnboardingRow {
  return {
    id: '6f1f6ad8-5f0c-4b0e-8f43-0d6b0f1a2b3c',
    tenant_id: 'acme',
    user_id: null,
    code_hash: 'hash',
    status: 'in_progress',
    steps: newSteps().map((step) => done.includes(step.name)
      ? {
          ...step,
          status: 'done',
          attempts: 1,
          evidence: { is: step.name }
        }
      : step),
    waba_id: 'waba',
    phone_number_id: 'phone',
    pin_given: false,
    access_token: null,
    token_expires_at: null,
    holder: null,
    held_until: null,
    chosen_waba_id: null,
    chosen_phone_number_id: null,
    former: null,
    failing_since: null,
    retry_at: null,
    created_at: '2026-11-23T12:00:00.000000Z',
    updated_at: '2026-11-23T12:00:00.000000Z',
    ...change
  }
}

await t.test('a new record has every step pending, in order', async (t) => {
  t.same(
    newSteps(),
    stepNames.map((name) => ({ name, status: 'pending', attempts: 0, at: null, evidence: null, error: null }))
  )
})

await t.test('stepOf finds a step by its name and throws without one', async (t) => {
  t.equal(stepOf(recordWith(['assets']), 'assets').status, 'done')
  t.throws(() => stepOf({ steps: [] }, 'assets'), /no step assets/)
})

await t.test('withStep changes one step, sets its time and leaves the others unchanged', async (t) => {
  const before = newSteps()
  const after = withStep(before, 'inspect', { status: 'done' })
  t.match(after[1], { name: 'inspect', status: 'done', at: /^\d{4}-\d{2}-\d{2}T/ })
  t.same(after.filter(({ name }) => name !== 'inspect'), before.filter(({ name }) => name !== 'inspect'))
})

await t.test('a started step is pending, counts one attempt more and has no error', async (t) => {
  const failed = withStep(
    withStep(newSteps(), 'store', { attempts: 2 }),
    'store',
    { status: 'failed', error: refused('INTERNAL') }
  )
  t.match(withStepBegun(failed, 'store').find(({ name }) => name === 'store'), {
    status: 'pending',
    attempts: 3,
    error: null
  })
})

await t.test('a reopened step reopens all later steps and no earlier one', async (t) => {
  const steps = withStep(
    recordWith(['exchange', 'inspect', 'assets', 'store', 'subscribe']).steps,
    'register',
    { status: 'failed', attempts: 4, error: refused('META_REGISTER_REFUSED') }
  )
  const again = withStepsReopened(steps, 'store')
  t.same(again.slice(0, 3), steps.slice(0, 3))
  t.match(
    again.slice(3).map(({ status, evidence, error }) => [status, evidence, error]),
    Array(4).fill(['pending', null, null])
  )
  t.equal(again[5]?.attempts, 4)
})

await t.test('a step is finished if it is done or skipped', async (t) => {
  const [step] = newSteps()
  if (step === undefined) throw new Error('no step')
  t.same(
    (['pending', 'done', 'skipped', 'failed'] as const).map((status) => isFinished({ ...step, status })),
    [false, true, true, false]
  )
})

await t.test('failedStep returns the failed step, or undefined without one', async (t) => {
  t.equal(failedStep(recordWith(['exchange'])), undefined)
  t.equal(failedStep({ steps: withStep(newSteps(), 'assets', { status: 'failed' }) })?.name, 'assets')
})

await t.test('an error is final or not depending on its step and its Meta code', async (t) => {
  const ends: Array<[StepName, StepError | null, boolean]> = [
    ['exchange', null, true],
    ['exchange', refused('META_CODE_USED', 100), true],
    ['exchange', refused('META_EXCHANGE_UNKNOWN'), true],
    ['exchange', refused('META_UNAVAILABLE'), false],
    ['exchange', refused('META_TIMEOUT'), false],
    ['exchange', refused('META_RATE_LIMITED'), false],
    ['exchange', refused('META_UNAVAILABLE', 2), true],
    ['inspect', null, false],
    ['inspect', refused('META_TOKEN_INVALID', 190), true],
    ['done', refused('ONBOARDING_SUPERSEDED'), true],
    ['subscribe', refused('META_UNAVAILABLE', 2), false],
    ['assets', refused('META_WABA_NOT_ACCESSIBLE', 100), true],
    ['assets', refused('META_PERMISSION_MISSING', 10), true],
    ['assets', refused('META_WABA_NOT_ACCESSIBLE', 368), false],
    ['assets', refused('META_WABA_NOT_ACCESSIBLE', 131031), false],
    ['store', refused('META_WABA_NOT_ACCESSIBLE', 100), false],
    ['subscribe', refused('META_WABA_NOT_ACCESSIBLE', 100), false],
    ['subscribe', refused('META_PERMISSION_MISSING', 10), false],
    ['register', refused('META_REGISTER_REFUSED', 133005), false]
  ]
  for (const [name, error, isEnd] of ends) {
    t.equal(isFinal({ name, error }, { chosen_waba_id: null }), isEnd, `${name} ${error?.code} ${error?.meta_code}`)
  }
})

await t.test('an outage or internal error is transient; a refusal by Meta is not', async (t) => {
  const transientCodes = [
    'META_UNAVAILABLE', 'META_TIMEOUT', 'META_UNEXPECTED_REPLY', 'DATABASE_UNAVAILABLE', 'INTERNAL'
  ]
  for (const code of transientCodes) t.ok(isTransient(refused(code)), code)
  t.ok(isTransient(refused('META_UNAVAILABLE', 2)))
  t.ok(isTransient(refused('META_RATE_LIMITED')), 'a limit that prevented the call')
  t.notOk(isTransient(refused('META_RATE_LIMITED', 80007)), 'a limit that Meta returned')
  for (const code of ['META_TOKEN_INVALID', 'META_CALLBACK_REFUSED']) {
    for (const meta of [null, 190]) t.notOk(isTransient(refused(code, meta)), code)
  }
})

await t.test('the times of shown steps have six fractional digits, also those of former versions', async (t) => {
  const at = '2026-11-23T12:00:00.123Z'
  const inspect = { at, evidence: { expires_at: '2027-01-01T00:00:00.000Z', scopes: ['a'] } }
  const steps = withStep(
    newSteps(),
    'inspect',
    {}
  ).map((step) => step.name === 'inspect' ? { ...step, ...inspect } : step)
  const shown = shownSteps(steps)
  t.same(shown[1], {
    ...steps[1],
    at: '2026-11-23T12:00:00.123000Z',
    evidence: { expires_at: '2027-01-01T00:00:00.000000Z', scopes: ['a'] }
  })
  t.same(shown.toSpliced(1, 1), steps.toSpliced(1, 1), 'the other steps have no time and no evidence')
  const bare = steps.map((step) => ({ ...step, at, evidence: { expires_at: null } }))
  t.same(
    shownSteps(bare).map(({ evidence }) => evidence),
    bare.map(({ evidence }) => evidence),
    'a token that never expires'
  )
})

await t.test('a code is in flight once its exchange started and until it has an outcome', async (t) => {
  const exchange = (change: Partial<Step>) => isCodeUnderWay({ steps: withStep(newSteps(), 'exchange', change) })
  t.same(
    [
      exchange({}), exchange({ attempts: 1 }), exchange({ status: 'done', attempts: 1 }),
      exchange({ status: 'failed', attempts: 1 })
    ],
    [false, true, false, false]
  )
})

await t.test('a resumption reopens the assets step for another or a missing number', async (t) => {
  const done: StepName[] = ['exchange', 'inspect', 'assets', 'store']
  t.same(resumeChange(recordWith(done), {}), {})
  t.same(resumeChange(recordWith(done), { phone_number_id: 'phone' }), { chosen_phone_number_id: 'phone' })
  t.same(resumeChange(recordWith(done), { pin: '123456' }), { pin_given: true })
  t.match(resumeChange(recordWith(done), { phone_number_id: 'other' }), {
    phone_number_id: 'other',
    waba_id: undefined,
    steps: withStepsReopened(recordWith(done).steps, 'assets')
  })
  const lacking = recordWith(done, { phone_number_id: null })
  t.match(resumeChange(lacking, {}), { phone_number_id: null, steps: withStepsReopened(lacking.steps, 'assets') })
  t.same(resumeChange(recordWith(['exchange'], { phone_number_id: null }), {}), {})
  const discovered = recordWith(done)
  const found = { ...discovered, steps: withStep(discovered.steps, 'assets', { evidence: { is_discovered: true } }) }
  t.equal(resumeChange(found, { phone_number_id: 'other' }).waba_id, null)
  t.notOk('waba_id' in resumeChange(found, {}))
  const bare = { ...discovered, steps: withStep(discovered.steps, 'assets', { evidence: null }) }
  t.notOk('waba_id' in resumeChange(bare, { phone_number_id: 'other' }))
})

await t.test('a completed onboarding lacks a requested number, a first number or a registration', async (t) => {
  const skipped = { ...recordWith([]), steps: withStep(newSteps(), 'register', { status: 'skipped' }) }
  const registered = { ...recordWith([]), steps: withStep(newSteps(), 'register', { status: 'done' }) }
  t.notOk(lacksRequested(skipped, {}))
  t.notOk(lacksRequested(skipped, { phone_number_id: 'phone' }))
  t.ok(lacksRequested(skipped, { phone_number_id: 'other' }))
  t.ok(lacksRequested({ ...skipped, phone_number_id: null }, {}))
  t.ok(lacksRequested(skipped, { pin: '123456' }))
  t.notOk(lacksRequested(registered, { pin: '123456' }))
})

await t.test('the failure of a step contains its advice and evidence', async (t) => {
  const [step] = withStep(newSteps(), 'exchange', {
    error: refused('META_PHONE_CHOICE_REQUIRED'),
    evidence: { phone_numbers: ['1'] }
  })
  t.match(stepFailure(step), {
    code: 'META_PHONE_CHOICE_REQUIRED',
    advice: 'Advice of META_PHONE_CHOICE_REQUIRED.',
    phone_numbers: ['1']
  })
  t.match(stepFailure(newSteps()[0]), { code: 'META_UNAVAILABLE' })
  t.match(
    stepFailure(withStep(newSteps(), 'exchange', { error: refused('NO_CODE_OF_OURS') })[0]),
    { code: 'META_UNAVAILABLE' }
  )
  t.match(stepFailure(undefined), { code: 'ONBOARDING_SUPERSEDED' })
})
