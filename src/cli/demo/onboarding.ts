import type { Step as RecordedStep } from '../../database/schema/onboardings.js'
import { createClient, createTenantClient } from './client.js'
import { account, fallback, type Stage } from './stage.js'
import type { Step } from './steps.js'

const PATH = '/onboard/whatsapp-client'
const REDIRECT = { redirect_uri: fallback.REDIRECT_URL }

type Client = ReturnType<typeof createClient>

/** The answer while the account has several numbers. */
const choice = {
  status: 409,
  body: {
    code: 'META_PHONE_CHOICE_REQUIRED',
    phone_numbers: [{ id: account.phone_number_id }, { id: account.other_phone_number_id }]
  }
}

/** The answer of a completed onboarding. */
const connected = {
  status: 200,
  body: {
    tenant_id: 'acme',
    waba_id: account.waba_id,
    phone_number_id: account.phone_number_id,
    access_token: /^\*{4}\w{4}$/,
    token_expires_at: /^\d{4}-/,
    onboarding_completed: true,
    onboarded_at: /^\d{4}-/,
    is_active: true
  }
}

/** Acme connects its account by the redirect flow. It has to choose a number, and enters a wrong PIN first. */
export async function showOnboarding (stage: Stage, step: Step): Promise<void> {
  const { service, meta, callback } = stage
  const acme = createTenantClient(service, 'acme')
  await step('Nobody gets in without a token.', createClient(service.listeningOrigin).get('/config'),
    { status: 401, body: { code: 'UNAUTHENTICATED' } })
  await step('Acme has no configuration yet.', acme.get('/config'),
    { status: 404, body: { code: 'CONFIG_NOT_FOUND' } })
  await step('It says where its messages are to go.', acme.post('/config', callback),
    { status: 201, body: { callback_url: callback.callback_url, onboarding_completed: false } })

  const { body: { state } } = await step(
    "It begins a login: the service makes the URL of Meta's dialog, and a state that works once.",
    acme.post(`${PATH}/start`, REDIRECT),
    {
      status: 200,
      body: {
        authorization_url: /^https:\/\/www\.facebook\.com\/v\d+\.0\/dialog\/oauth\?.*state=/,
        state: /^[\w-]{43}$/,
        expires_at: /^\d{4}-/
      }
    }
  )
  await step('Meta sends customers back only to where the platform expects them.',
    acme.post(`${PATH}/start`, { redirect_uri: 'https://elsewhere.example/' }),
    { status: 400, body: { code: 'REDIRECT_URI_NOT_ALLOWED' } })

  const login = { code: await meta.login(account.waba_id, fallback.REDIRECT_URL), state, ...REDIRECT }
  await step('Acme has logged in and come back with a code. ' +
    'The service has a token for it, and finds the account; that has two numbers.', acme.post(PATH, login), choice)
  await step('The state is used up: who comes with it and another code is refused, and Meta does not see that code.',
    acme.post(PATH, { ...login, code: await meta.login(account.waba_id, fallback.REDIRECT_URL) }),
    { status: 400, body: { code: 'OAUTH_STATE_INVALID' } })
  await step('The same code once more, as after a double click, is answered from the record.',
    acme.post(PATH, login), choice)
  await step(
    'The onboarding goes on with the number that acme chooses. Meta verifies the callback, and refuses the PIN.',
    acme.post(`${PATH}/resume`, { phone_number_id: account.phone_number_id, pin: '111111' }),
    { status: 409, body: { code: 'META_REGISTER_REFUSED', detail: /two-step verification PIN/ } }
  )
  await step('The record says what is done and what is not.', readRecord(acme), {
    status: 'in_progress',
    exchange: 'done',
    inspect: 'done',
    assets: 'done',
    store: 'done',
    subscribe: 'done',
    register: 'failed: META_REGISTER_REFUSED, 133005 at Meta',
    done: 'pending'
  })

  await step('With the right PIN it goes on from there, without a new login.',
    acme.post(`${PATH}/resume`, { pin: account.pin }), connected)
  await step('Everything is done.', readRecord(acme),
    { status: 'completed', subscribe: 'done', register: 'done', done: 'done' })
  await step('The code yet again: it is answered with what became of it.', acme.post(PATH, login), connected)
  await step('Meta saw it once.', meta.countArrivals(login.code), { arrivals: 1 })
}

/** Reads the latest onboarding: its status and those of its steps. */
async function readRecord (acme: Client): Promise<Record<string, unknown>> {
  const { body: { status, steps } } = await acme.get<{ status: string, steps: RecordedStep[] }>(PATH)
  const outcomes = steps.map(({ name, status, error }) => [
    name,
    error === null ? status : `${status}: ${error.code}, ${error.meta_code} at Meta`
  ])
  return { status, ...Object.fromEntries(outcomes) }
}
