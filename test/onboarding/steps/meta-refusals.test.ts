import type { Test } from 'tap'
import t from '../../run/tap.js'
import type { Step } from '../../../src/database/schema/onboardings.js'
import type { StepName } from '../../../src/schemas/statuses.js'
import { exchangeRefusals, refusals, registerRefusals, type Verdict } from './refusals.js'
import { BLOCK_MS, clock } from '../../fixtures/clock.js'
import type { GraphError } from '../../graph/errors.js'
import type { Fault, Route } from '../../graph/faults.js'
import { startGraph } from '../../graph/server.js'
import { client, config, onboard, type Answer } from '../../routes/client.js'

const APP = { app_id: '670843887433847', app_secret: '0123456789abcdef0123456789abcdef' }
const PIN = '123456'
const names: StepName[] = ['exchange', 'inspect', 'assets', 'store', 'subscribe', 'register', 'done']

// FINAL needs a new login; FINAL_BEFORE_STORE does so only until the credentials are stored.
// A code of REVIEWED is never final: the review at Meta ends.
const FINAL = ['META_TOKEN_INVALID']
const FINAL_BEFORE_STORE = ['META_PERMISSION_MISSING', 'META_WABA_NOT_ACCESSIBLE']
const REVIEWED = [368, 131031]

const meta = await startGraph()
t.teardown(meta.close)
meta.state.addApp(APP)
const { advance } = clock(t)
const { call, as, sql } = await client(t, {
  GRAPH_API_BASE_URL: meta.url,
  FB_APP_ID: APP.app_id,
  FB_APP_SECRET: APP.app_secret
})

/** The tenant's configuration as PostgreSQL writes it. */
const rowOf = async (tenant: string) =>
  (await sql('select to_jsonb(c)::text as row from tenant_configs c where tenant_id = $1', [tenant]))[0]?.['row']

/** Whether the record of the tenant's onboarding still contains the granted token. */
const hasToken = async (tenant: string) =>
  (await sql('select access_token is not null as kept from onboardings where tenant_id = $1', [tenant]))[0]?.['kept']

async function stepsOf (tenant: string): Promise<{ status: unknown, steps: Step[] }> {
  const { body: { status, steps } } = await call(as(tenant), 'GET', onboard)
  return { status, steps: JSON.parse(JSON.stringify(steps)) }
}

let tenants = 0

/** Asserts the answer, the record and the resumption of an onboarding for one error of Meta at one step. */
async function assertRefusal (
  t: Test,
  step: StepName,
  route: Route,
  fault: Fault,
  codes: [code: number, subcode: number | null],
  [is, advice]: Verdict,
  { isDiscovered = false } = {}
): Promise<void> {
  const tenant = `tenant ${++tenants}`
  const who = as(tenant)
  const phone = String(2e14 + tenants)
  const waba = meta.state.addWaba({ app_ids: [APP.app_id], phones: [{ id: phone }] })
  const old = {
    waba_id: 'old',
    access_token: 'the-old-token',
    token_expires_at: '2030-01-01T00:00:00.000000Z',
    redirect_url: 'https://old.example/'
  }
  t.equal((await call(who, 'POST', config, old)).is, '201')
  const before = await rowOf(tenant)
  const code = meta.state.issueCode({ app_id: APP.app_id, waba_ids: [waba.id] })
  const login = { code, phone_number_id: phone, pin: PIN, ...(!isDiscovered && { waba_id: waba.id }) }
  const began = meta.requests.length
  meta.fail(route, fault)
  const post = async () => await call(who, 'POST', onboard, login)
  // `as` makes a new bearer token, because the clock of the test advances.
  const resume = async (body: object = { pin: PIN }) => await call(as(tenant), 'POST', `${onboard}/resume`, body)

  const answer = await post()
  t.equal(answer.is, is)
  t.match(answer.body['detail'], advice)

  const [, name = ''] = is.split(' ')
  const at = names.indexOf(step)
  const isStored = at > names.indexOf('store')
  const final = isStored ? FINAL : [...FINAL, ...FINAL_BEFORE_STORE]
  const isFinal = step === 'exchange' || (final.includes(name) && !REVIEWED.includes(codes[0]))
  const record = await stepsOf(tenant)
  t.equal(record.status, isFinal ? 'failed' : 'in_progress')
  t.same(record.steps.map(({ name, status, attempts }) => [name, status, attempts]),
    names.map((name, i) => [name, i < at ? 'done' : i === at ? 'failed' : 'pending', i <= at ? 1 : 0]))
  const { error } = record.steps[at] ?? {}
  t.match(error, {
    code: name,
    meta_code: codes[0],
    meta_subcode: codes[1],
    fbtrace_id: 'reply' in fault ? /^A\w{22}$/ : null
  })
  t.equal(error?.advice, answer.body['detail'])
  t.equal(await hasToken(tenant), !isFinal)

  const stored = await call(who, 'GET', `${config}/full`)
  const token = [...meta.state.tokens.keys()].at(-1)
  if (isStored) {
    t.match(stored.body, {
      waba_id: waba.id,
      phone_number_id: phone,
      access_token: token,
      onboarding_completed: false
    })
  } else t.equal(await rowOf(tenant), before, 'the configuration is unchanged')

  const asked = meta.requests.length
  if (isFinal) await assertSameAnswer(t, answer, [resume, post])
  else if (step === 'register') await assertNeedsPin(t, answer, resume)
  t.equal(meta.requests.length, asked, 'Meta gets no other call')
  if (name === 'META_RATE_LIMITED') advance(BLOCK_MS)
  if (!isFinal) {
    t.equal((await resume()).is, '200', 'a resumption succeeds after the error')
    t.match((await call(as(tenant), 'GET', `${config}/full`)).body, {
      waba_id: waba.id,
      access_token: token,
      onboarding_completed: true
    })
    t.match(await stepsOf(tenant), { status: 'completed', steps: names.map(() => ({ status: 'done', error: null })) })
    t.equal(await hasToken(tenant), false)
  }
  t.equal(meta.requests.slice(began).filter(({ form }) => form['code'] === code).length, 1, 'the code was sent once')
}

/** Asserts that the error is answered from the record. */
async function assertSameAnswer (t: Test, { is, body }: Answer, again: Array<() => Promise<Answer>>): Promise<void> {
  for (const ask of again) {
    const answer = await ask()
    t.same([answer.is, answer.body['detail']], [is, body['detail']])
  }
}

/** Asserts that a resumption without a PIN repeats a register refusal, and after another error requires a PIN. */
async function assertNeedsPin (t: Test, answer: Answer, resume: (body: object) => Promise<Answer>): Promise<void> {
  if (answer.is === '409 META_REGISTER_REFUSED') await assertSameAnswer(t, answer, [async () => await resume({})])
  else t.match(await resume({}), { is: '409 META_REGISTER_REFUSED', body: { detail: /pin is not stored/ } })
}

const subcodeOf = ({ extra: { error_subcode: subcode } }: GraphError) => typeof subcode === 'number' ? subcode : null

/** Runs `assertRefusal` for an error reply of Meta. */
const replied = async (t: Test, step: StepName, route: Route, error: GraphError, verdict: Verdict) => {
  await t.test(`${error.status} ${error.code}/${String(subcodeOf(error))} ${error.message.slice(0, 60)}`, async (t) => {
    await assertRefusal(t, step, route, { reply: error }, [error.code, subcodeOf(error)], verdict)
  })
}

await t.test('each refusal of an exchange has its code and advice', async (t) => {
  for (const [error, ...verdict] of exchangeRefusals) await replied(t, 'exchange', 'access_token', error, verdict)
})

await t.test('each refusal of debug_token has its code and advice', async (t) => {
  for (const { error, app } of refusals) await replied(t, 'inspect', 'debug_token', error, app)
  for (const { error, waba: [is, advice] } of refusals.filter(({ error: { code } }) => code === 190)) {
    const { code, message } = error
    const subcode = subcodeOf(error)
    const patch = { data: { is_valid: false, error: { code, message, ...(subcode !== null && { subcode }) } } }
    await t.test(
      `not valid: ${message}`,
      async (t) => { await assertRefusal(t, 'inspect', 'debug_token', { patch }, [code, subcode], [is, advice]) }
    )
  }
})

await t.test('each refusal of phone_numbers has its code and advice', async (t) => {
  for (const { error, waba } of refusals) await replied(t, 'assets', 'phone_numbers', error, waba)
})

await t.test('each refusal of phone_numbers during a discovery has its code and advice', async (t) => {
  for (const { error, waba } of refusals.filter(({ error: { code } }) => [10, 100, 131031].includes(code))) {
    await t.test(error.message, async (t) => {
      await assertRefusal(
        t,
        'assets',
        'phone_numbers',
        { reply: error },
        [error.code, subcodeOf(error)],
        error.code === 100 && waba[0].includes('META_WABA')
          ? ['409 META_ACCOUNT_REQUIRED', /Name it as waba_id/]
          : waba,
        { isDiscovered: true }
      )
    })
  }
})

await t.test('each refusal of subscribed_apps has its code and advice', async (t) => {
  for (const { error, waba } of refusals) await replied(t, 'subscribe', 'subscribe', error, waba)
})

await t.test('each refusal of a registration has its code and advice', async (t) => {
  for (const [error, ...verdict] of registerRefusals) await replied(t, 'register', 'register', error, verdict)
  for (const { error, phone } of refusals) await replied(t, 'register', 'register', error, phone)
})
