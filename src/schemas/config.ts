import { Type, type Static, type TSchema } from '@sinclair/typebox'
import type { SecretColumn, WritableColumn } from './columns.js'
import { entityTags, graphId, headerToken, nullable, tenantId, text, timestamp, webUrl } from './fields.js'

/** Meta issues no refresh token, so the examples have none. */
type ExampleColumn = Exclude<WritableColumn, 'refresh_token'>

/** The example values of the writable fields. */
export const example = {
  waba_id: '102290129340398',
  phone_number_id: '106540352242922',
  access_token: 'EAAGm0PX4ZCpsBAexample',
  fb_app_id: '670843887433847',
  fb_app_secret: '0123456789abcdef0123456789abcdef',
  callback_url: 'https://tenant.example/webhooks/whatsapp',
  redirect_url: 'https://tenant.example/oauth/done',
  verify_token: 'a-verify-token-of-yours',
  token_expires_at: '2027-01-22T12:00:00.000000Z'
} satisfies Record<ExampleColumn, string>

/** The secrets of `example`, masked. */
export const maskedExample = {
  access_token: '****mple',
  fb_app_secret: '****cdef',
  verify_token: '****ours'
} satisfies Record<SecretColumn & ExampleColumn, string>

/** The descriptions of the writable fields. */
export const about = {
  waba_id: 'WhatsApp Business Account id',
  phone_number_id: 'Phone number id; one tenant only may hold it',
  access_token: 'Secret: the token for calls to Meta',
  fb_app_id: 'Meta app of the tenant; used with fb_app_secret',
  fb_app_secret: 'Secret of the Meta app',
  callback_url: 'Webhook URL',
  redirect_url: 'OAuth redirect URL',
  verify_token: 'Secret: what Meta shows to have the webhook verified',
  token_expires_at: 'When the access token expires; null when it does not, or nobody said',
  refresh_token: 'Secret: kept for you; Meta issues none'
} satisfies Record<WritableColumn, string>

const writable = {
  waba_id: Type.Optional(nullable(graphId({ description: about.waba_id }))),
  phone_number_id: Type.Optional(nullable(graphId({ description: about.phone_number_id }))),
  access_token: Type.Optional(nullable(headerToken(4096, { description: about.access_token }))),
  fb_app_id: Type.Optional(nullable(graphId({ description: about.fb_app_id }))),
  fb_app_secret: Type.Optional(nullable(text(255, { description: about.fb_app_secret }))),
  callback_url: Type.Optional(nullable(webUrl(500, { description: about.callback_url }))),
  redirect_url: Type.Optional(nullable(webUrl(500, { description: about.redirect_url }))),
  verify_token: Type.Optional(nullable(text(255, { description: about.verify_token }))),
  token_expires_at: Type.Optional(nullable(timestamp({
    description: `${about.token_expires_at}. RFC 3339 with an offset`
  }))),
  refresh_token: Type.Optional(nullable(text(4096, { description: about.refresh_token })))
} satisfies Record<WritableColumn, TSchema>

/** The body of POST /config. */
export const ConfigCreate = Type.Object(writable, {
  additionalProperties: false,
  minProperties: 1,
  description: 'At least one field',
  examples: [example]
})

/** The body of PUT /config. */
export const ConfigUpdate = Type.Object(writable, {
  additionalProperties: false,
  minProperties: 1,
  description: 'At least one field; one left out stays, null clears it',
  examples: [{ callback_url: example.callback_url, verify_token: null }]
})

const etagExample = '"1-745"'

/** The headers of a read. */
export const IfNoneMatch = Type.Object({
  'if-none-match': Type.Optional(entityTags({
    description: 'Entity tags of versions that you have: for one of them, or for *, the answer is 304',
    examples: [etagExample]
  }))
})

/** The headers of a write. */
export const IfMatch = Type.Object({
  'if-match': Type.Optional(entityTags({
    description: 'The entity tag of the version that you have read: nothing is written to another one. * is any',
    examples: [etagExample]
  }))
})

/** The header of an answer with a configuration. */
export const etag = Type.String({
  description: 'The version of the configuration: each write of the row changes it',
  examples: [etagExample]
})

/** The answer of a read to a client that has the version. */
export const NotModified = Type.Null({ description: '`if-none-match` names the version', headers: { etag } })
/** The query parameter that deletes the former states too. */
export const purge = Type.Optional(Type.Boolean({
  description: 'Delete the former states too, so that nothing can be restored',
  examples: [true]
}))

/** The query of DELETE /config. */
export const DeleteQuery = Type.Object({
  unsubscribe: Type.Optional(Type.Boolean({
    description: 'Take our app off the WhatsApp Business Account first',
    examples: [true]
  })),
  force: Type.Optional(Type.Boolean({
    description: 'With unsubscribe: delete, whatever comes of that',
    examples: [true]
  })),
  purge
}, { additionalProperties: false })

const { minProperties, ...fields } = ConfigUpdate

/** The body of POST /config/verify: that of PUT, or none. One type keyword, for the reason given at `nullable`. */
export const VerifyBody = Type.Unsafe<Static<typeof ConfigUpdate> | null>({
  ...fields,
  type: ['object', 'null'],
  description: 'What to check in place of what is stored, field by field; ' +
    'without a field the stored configuration is checked',
  examples: [{
    access_token: example.access_token,
    waba_id: example.waba_id,
    phone_number_id: example.phone_number_id
  }]
})

/** No body, or an empty object. */
export const NoBody = Type.Union([Type.Null(), Type.Object({}, { additionalProperties: false })])

const textOrNull = (description: string) => nullable(Type.String({ description }))
const timeOrNull = (description: string) => nullable(timestamp({ description }))

/** Lists the fields of a configuration; `secret` makes the schema of a secret from its description. */
export function configFields (secret: (description: string) => ReturnType<typeof nullable>) {
  return {
    id: Type.Integer({ description: 'Number of the row' }),
    tenant_id: tenantId({ description: 'The tenant it belongs to' }),
    user_id: textOrNull('`sub` of the token that created it'),
    waba_id: textOrNull(about.waba_id),
    phone_number_id: textOrNull(about.phone_number_id),
    access_token: secret(about.access_token),
    fb_app_id: textOrNull(about.fb_app_id),
    fb_app_secret: secret(about.fb_app_secret),
    callback_url: textOrNull(about.callback_url),
    redirect_url: textOrNull(about.redirect_url),
    verify_token: secret(about.verify_token),
    token_expires_at: timeOrNull(about.token_expires_at),
    refresh_token: secret(about.refresh_token),
    is_active: Type.Boolean({ description: 'Whether it is served' }),
    onboarding_completed: Type.Boolean({ description: 'Whether account, number and token are proven against Meta' }),
    onboarded_at: timeOrNull('When an onboarding last succeeded'),
    last_verified_at: timeOrNull('When account, number and token were last verified; null when they are not'),
    created_at: timestamp({ description: 'When it was created' }),
    updated_at: timestamp({ description: 'When it last changed' })
  } satisfies Record<WritableColumn, TSchema> & Record<string, TSchema>
}

export const createConfigExample = (secrets: typeof maskedExample) => ({
  id: 1,
  tenant_id: 'acme',
  user_id: 'user-1',
  ...example,
  ...secrets,
  refresh_token: null,
  is_active: true,
  onboarding_completed: true,
  onboarded_at: '2026-11-23T12:00:00.000000Z',
  last_verified_at: '2026-11-23T12:00:00.000000Z',
  created_at: '2026-11-23T12:00:00.000000Z',
  updated_at: '2026-11-23T12:00:00.000000Z'
})

export const maskedSecret = (description: string) =>
  textOrNull(`${description}. **** and its last four characters, **** alone when it is short, null for none`)

/** A configuration with its secrets masked. */
export const MaskedConfig = Type.Object(configFields(maskedSecret), {
  $id: 'MaskedConfig',
  description: 'A configuration; its secrets are masked',
  examples: [createConfigExample(maskedExample)]
})

const clearSecret = (description: string) => textOrNull(`${description}. In clear`)

/** A configuration with its secrets in clear. */
export const FullConfig = Type.Object(configFields(clearSecret), {
  $id: 'FullConfig',
  description: 'A configuration; its secrets are in clear',
  examples: [createConfigExample(example)]
})

/** The answer of POST /config/verify. */
export const Verification = Type.Object({
  ok: Type.Boolean({ description: 'Whether every check is' }),
  checks: Type.Array(Type.Object({
    name: Type.Union(['token', 'assets', 'subscription', 'callback'].map((name) => Type.Literal(name)), {
      description: 'token: valid, and issued for the app. ' +
        'assets: the token sees the account, and the number is in it. ' +
        'subscription: the app gets the webhooks of the account. ' +
        'callback: they go to callback_url, or else to CALLBACK_URL'
    }),
    ok: Type.Boolean({ description: 'Whether it holds' }),
    detail: Type.String({ description: 'What was found; where it does not hold, what to do' })
  }), { description: 'Always these four, in this order' }),
  config: Type.Union([Type.Ref('MaskedConfig'), Type.Null()], {
    description: 'What is stored now, masked; null when nothing is'
  })
}, {
  $id: 'Verification',
  description: 'What Meta says of the credentials',
  examples: [{
    ok: false,
    checks: [
      { name: 'token', ok: true, detail: 'The access token is valid, and was issued for the app.' },
      { name: 'assets', ok: true, detail: 'The token sees the account, and the phone number belongs to it.' },
      { name: 'subscription', ok: true, detail: 'The app gets the webhooks of the account.' },
      {
        name: 'callback',
        ok: false,
        detail: 'Meta sends messages elsewhere, or nowhere: onboard again to have them sent to callback_url, ' +
          'or store the URL that is meant with PUT /config.'
      }
    ],
    config: createConfigExample(maskedExample)
  }]
})

export type MaskedConfig = Static<typeof MaskedConfig>
export type FullConfig = Static<typeof FullConfig>
