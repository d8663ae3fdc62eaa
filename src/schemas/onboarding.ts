import { Type, type Static, type TObject } from '@sinclair/typebox'
import { graphId, nullable, oneOf, text, timestamp, webUrl } from './fields.js'
import { onboardingStatuses, stepNames, stepStatuses } from './statuses.js'

const PIN = 'Two-step verification PIN, six digits: registers the phone number for the Cloud API with it. Never stored'
const pinSchema = Type.String({ pattern: '^[0-9]{6}$', description: PIN })

/** The body may be absent: Fastify then validates null. */
const orNull = <T extends TObject>(schema: T) =>
  Type.Unsafe<Static<T> | null>({ ...schema, type: ['object', 'null'] })

/** The body of POST /onboard/whatsapp-client. */
export const Onboard = Type.Object({
  code: text(2048, { description: 'What the Meta login handed to the browser; lives about 30 seconds and works once' }),
  waba_id: Type.Optional(graphId({
    description: 'From the WA_EMBEDDED_SIGNUP message; proven against Meta. ' +
      'Left out, it is the one that the token was granted for'
  })),
  phone_number_id: Type.Optional(graphId({
    description: 'From the WA_EMBEDDED_SIGNUP message; proven against Meta. ' +
      'Left out, it is the only one of the account'
  })),
  redirect_uri: Type.Optional(webUrl(2048, {
    description: 'The redirect_uri of the login dialog, character by character; none for a code from the JavaScript SDK'
  })),
  state: Type.Optional(text(512, {
    description: 'The state that came back from the login dialog; works once, for whom it was made'
  })),
  pin: Type.Optional(pinSchema)
}, {
  additionalProperties: false,
  description: 'What the Meta login gave',
  examples: [{ code: 'AQDexample', waba_id: '102290129340398', phone_number_id: '106540352242922' }]
})

/** The body of POST /onboard/whatsapp-client/resume. */
export const Resume = orNull(Type.Object({
  waba_id: Type.Optional(graphId({ description: 'The account, when the login does not tell it; proven against Meta' })),
  phone_number_id: Type.Optional(graphId({
    description: 'Which of the account\'s phone numbers it is to be, also in place of the one that the tenant has'
  })),
  pin: Type.Optional(Type.Unsafe<string | null>({
    ...pinSchema,
    type: ['string', 'null'],
    description: `${PIN}; null takes back the wish to register the number`
  }))
}, {
  additionalProperties: false,
  description: 'What the onboarding needs to go on; nothing, to try its first unfinished step again',
  examples: [{ phone_number_id: '106540352242922', pin: '123456' }]
}))

/** The body of POST /onboard/whatsapp-client/start. */
export const Start = orNull(Type.Object({
  redirect_uri: Type.Optional(webUrl(2048, {
    description: 'Where Meta sends the customer back to; ' +
      'left out, redirect_url of the configuration, else REDIRECT_URL'
  })),
  config_id: Type.Optional(text(255, {
    description: 'Configuration of Facebook Login for Business; left out, FB_LOGIN_CONFIG_ID'
  }))
}, {
  additionalProperties: false,
  description: 'How the login is to be; nothing, for what is configured',
  examples: [{ redirect_uri: 'https://tenant.example/oauth/done' }]
}))

/** The answer of POST /onboard/whatsapp-client/start. */
export const Started = Type.Object({
  authorization_url: Type.String({ description: 'Meta\'s login dialog; send the customer there' }),
  state: Type.String({ description: 'Comes back with the code; send it along with that' }),
  expires_at: timestamp({ description: 'Until when the state is accepted' })
}, {
  $id: 'Started',
  description: 'A login that was begun',
  examples: [{
    authorization_url: 'https://www.facebook.com/v26.0/dialog/oauth?client_id=670843887433847' +
      '&redirect_uri=https%3A%2F%2Ftenant.example%2Foauth%2Fdone&state=kq0…&response_type=code' +
      '&scope=whatsapp_business_management%2Cwhatsapp_business_messaging',
    state: 'kq0…',
    expires_at: '2026-11-23T12:10:00.000000Z'
  }]
})

const integerOrNull = (description: string) => Type.Unsafe<number | null>({ type: ['integer', 'null'], description })

const StepError = Type.Object({
  code: Type.String({ description: 'Our error code' }),
  meta_code: integerOrNull('Meta\'s error code'),
  meta_subcode: integerOrNull('Meta\'s error subcode'),
  fbtrace_id: nullable(Type.String({ description: 'What to tell Meta\'s support' })),
  advice: Type.String({ description: 'What to do now' })
}, { description: 'What kept the step from being done' })

const Step = Type.Object({
  name: oneOf(stepNames, { description: 'Which step it is' }),
  status: oneOf(stepStatuses, { description: 'What became of it' }),
  attempts: Type.Integer({ minimum: 0, description: 'How often it was begun' }),
  at: nullable(timestamp({ description: 'When something last became of it' })),
  evidence: Type.Unsafe<object | null>({
    type: ['object', 'null'],
    additionalProperties: true,
    description: 'What was seen: ids and words, never a secret'
  }),
  error: Type.Unsafe<object | null>({ ...StepError, type: ['object', 'null'] })
})

/** An onboarding, step by step. */
export const OnboardingRecord = Type.Object({
  id: Type.String({ format: 'uuid', description: 'Its id' }),
  status: oneOf(onboardingStatuses, {
    description: '`in_progress`: POST …/resume goes on; `completed`; `failed`: only a new login helps'
  }),
  steps: Type.Array(Step, { description: 'In their order' }),
  created_at: timestamp({ description: 'When its code was posted' }),
  updated_at: timestamp({ description: 'When it last changed' })
}, {
  $id: 'OnboardingRecord',
  description: 'An onboarding, step by step',
  examples: [{
    id: 'b9a1c9de-7d3c-4be6-93f4-6a5ab1f6a7c2',
    status: 'in_progress',
    steps: [
      {
        name: 'exchange',
        status: 'done',
        attempts: 1,
        at: '2026-11-23T12:00:00.000000Z',
        evidence: { app_id: '670843887433847', expires_at: '2027-01-22T12:00:00.000000Z' },
        error: null
      },
      {
        name: 'inspect',
        status: 'failed',
        attempts: 1,
        at: '2026-11-23T12:00:01.000000Z',
        evidence: null,
        error: {
          code: 'META_UNAVAILABLE',
          meta_code: 2,
          meta_subcode: null,
          fbtrace_id: 'AbCdEfGhIjKlMnOpQrStUvW',
          advice: 'Try again later.'
        }
      },
      { name: 'assets', status: 'pending', attempts: 0, at: null, evidence: null, error: null }
    ],
    created_at: '2026-11-23T12:00:00.000000Z',
    updated_at: '2026-11-23T12:00:01.000000Z'
  }]
})
