import { Type, type Static } from '@sinclair/typebox'
import { graphId, nullable, tenantId, text, timestamp, webUrl } from './fields.js'

const example = {
  waba_id: '102290129340398',
  phone_number_id: '106540352242922',
  access_token: 'EAAGm0PX4ZCpsBAexample',
  fb_app_id: '670843887433847',
  fb_app_secret: '0123456789abcdef0123456789abcdef',
  callback_url: 'https://tenant.example/webhooks/whatsapp',
  redirect_url: 'https://tenant.example/oauth/done',
  verify_token: 'a-verify-token-of-yours',
  token_expires_at: '2027-01-22T12:00:00Z'
}

const writable = {
  waba_id: Type.Optional(nullable(graphId({ description: 'WhatsApp Business Account id' }))),
  phone_number_id: Type.Optional(nullable(graphId({ description: 'Phone number id; one tenant only may hold it' }))),
  access_token: Type.Optional(nullable(text(4096, { description: 'Secret' }))),
  fb_app_id: Type.Optional(nullable(graphId({ description: 'Meta app of the tenant; used with fb_app_secret' }))),
  fb_app_secret: Type.Optional(nullable(text(255, { description: 'Secret' }))),
  callback_url: Type.Optional(nullable(webUrl(500, { description: 'Webhook URL' }))),
  redirect_url: Type.Optional(nullable(webUrl(500, { description: 'OAuth redirect URL' }))),
  verify_token: Type.Optional(nullable(text(255, { description: 'Secret' }))),
  token_expires_at: Type.Optional(nullable(timestamp({ description: 'RFC 3339 with an offset' }))),
  refresh_token: Type.Optional(nullable(text(4096, { description: 'Secret; Meta issues none' })))
}

/** The body of POST /config. */
export const ConfigCreate = Type.Object(writable, {
  additionalProperties: false,
  minProperties: 1,
  examples: [example]
})

/** The body of PUT /config: a field left out stays, null clears it. */
export const ConfigUpdate = Type.Object(writable, {
  additionalProperties: false,
  minProperties: 1,
  examples: [{ callback_url: example.callback_url, verify_token: null }]
})

/** The body of the onboarding. */
export const Onboarding = Type.Object({
  code: text(2048, { description: 'What the Meta login handed to the browser; lives about 30 seconds and works once' }),
  waba_id: graphId({ description: 'From the WA_EMBEDDED_SIGNUP message; proven against Meta' }),
  phone_number_id: graphId({ description: 'From the WA_EMBEDDED_SIGNUP message; proven against Meta' }),
  redirect_uri: Type.Optional(webUrl(2048, { description: 'The redirect_uri of the login dialog, character by character; none for a code from the JavaScript SDK' })),
  state: Type.Optional(text(512, { description: 'Accepted; has no effect yet' }))
}, {
  additionalProperties: false,
  examples: [{ code: 'AQDexample', waba_id: example.waba_id, phone_number_id: example.phone_number_id }]
})

/** No body, or an empty object. */
export const NoBody = Type.Union([Type.Null(), Type.Object({}, { additionalProperties: false })])

const text_or_null = nullable(Type.String())
const time_or_null = nullable(timestamp())

function config (secret: (name: string) => ReturnType<typeof nullable>) {
  return {
    id: Type.Integer(),
    tenant_id: tenantId(),
    user_id: text_or_null,
    waba_id: text_or_null,
    phone_number_id: text_or_null,
    access_token: secret('access_token'),
    fb_app_id: text_or_null,
    fb_app_secret: secret('fb_app_secret'),
    callback_url: text_or_null,
    redirect_url: text_or_null,
    verify_token: secret('verify_token'),
    token_expires_at: time_or_null,
    refresh_token: secret('refresh_token'),
    is_active: Type.Boolean(),
    onboarding_completed: Type.Boolean(),
    onboarded_at: time_or_null,
    last_verified_at: time_or_null,
    created_at: timestamp(),
    updated_at: timestamp()
  }
}

const stored = {
  id: 1,
  tenant_id: 'acme',
  user_id: 'user-1',
  ...example,
  refresh_token: null,
  is_active: true,
  onboarding_completed: true,
  onboarded_at: '2026-11-23T12:00:00.000000Z',
  last_verified_at: '2026-11-23T12:00:00.000000Z',
  created_at: '2026-11-23T12:00:00.000000Z',
  updated_at: '2026-11-23T12:00:00.000000Z'
}

/** A configuration whose secrets are masked. */
export const MaskedConfig = Type.Object(config(() => nullable(Type.String({ description: '**** and the last four characters, **** alone for a short secret, null for none' }))), {
  $id: 'MaskedConfig',
  description: 'A configuration; its secrets are masked',
  examples: [{ ...stored, access_token: '****mple', fb_app_secret: '****cdef', verify_token: '****ours' }]
})

/** A configuration in clear. */
export const FullConfig = Type.Object(config(() => nullable(Type.String({ description: 'In clear' }))), {
  $id: 'FullConfig',
  description: 'A configuration; its secrets are in clear',
  examples: [stored]
})

export type MaskedConfig = Static<typeof MaskedConfig>
export type FullConfig = Static<typeof FullConfig>
