import { Type, type Static, type TSchema } from '@sinclair/typebox'
import type { ConfigKey } from '../columns.js'
import { about, example } from '../config.js'
import { line, nullable, tenantId } from '../fields.js'

const metaId = (description: string, id: string) => Type.Optional(line(255, { description, examples: [id] }))

/** The query of GET /resolve. */
export const ResolveQuery = Type.Object({
  tenant_id: Type.Optional(tenantId({ description: 'The tenant whose configuration is meant', examples: ['acme'] })),
  phone_number_id: metaId('The phone number of the tenant that is meant', example.phone_number_id),
  waba_id: metaId('The WhatsApp Business Account of the tenants that are meant', example.waba_id)
}, { additionalProperties: false, minProperties: 1, maxProperties: 1 })

const value = (description: string) => nullable(Type.String({ description: `${description}; null for none` }))
const sources = ['database', 'env', null] as const
const source = () => Type.Unsafe<typeof sources[number]>({
  type: ['string', 'null'], enum: sources, description: 'As in GET /config/effective'
})

const values = {
  phone_id: value(about.phone_number_id),
  access_token: value(about.access_token),
  waba_id: value(about.waba_id),
  fb_app_id: value(about.fb_app_id),
  fb_app_secret: value(about.fb_app_secret),
  callback_url: value(about.callback_url),
  redirect_url: value(about.redirect_url),
  verify_token: value(about.verify_token),
  token_expires_at: value(about.token_expires_at)
} satisfies Record<ConfigKey, TSchema>

const resolvedExample = {
  tenant_id: 'acme',
  values: {
    phone_id: example.phone_number_id,
    access_token: example.access_token,
    waba_id: example.waba_id,
    fb_app_id: example.fb_app_id,
    fb_app_secret: example.fb_app_secret,
    callback_url: example.callback_url,
    redirect_url: null,
    verify_token: example.verify_token,
    token_expires_at: example.token_expires_at
  } satisfies Record<ConfigKey, string | null>,
  sources: {
    phone_id: 'database',
    access_token: 'database',
    waba_id: 'database',
    fb_app_id: 'env',
    fb_app_secret: 'env',
    callback_url: 'database',
    redirect_url: null,
    verify_token: 'database',
    token_expires_at: 'database'
  } satisfies Record<ConfigKey, typeof sources[number]>,
  is_stale: false
}

/** The values that the loader serves for a tenant. */
export const ResolvedConfig = Type.Object({
  tenant_id: nullable(Type.String({ description: 'The tenant whose active row serves; null when `.env` alone does' })),
  values: Type.Object(values, { description: 'What serves; secrets are in clear' }),
  sources: Type.Object({
    phone_id: source(),
    access_token: source(),
    waba_id: source(),
    fb_app_id: source(),
    fb_app_secret: source(),
    callback_url: source(),
    redirect_url: source(),
    verify_token: source(),
    token_expires_at: source()
  } satisfies Record<ConfigKey, TSchema>, { description: 'Where each value comes from' }),
  is_stale: Type.Boolean({ description: 'Whether the database is away, so that nobody could confirm it' })
}, { $id: 'ResolvedConfig', description: 'What the loader serves; secrets are in clear', examples: [resolvedExample] })

export type ResolvedConfig = Static<typeof ResolvedConfig>

/** The answer of GET /resolve: one configuration, or with `waba_id` those of an account. */
export const Resolved = Type.Union([
  Type.Ref('ResolvedConfig'),
  Type.Object({
    configs: Type.Array(Type.Ref('ResolvedConfig'), { description: 'By tenant id, at most 100' })
  }, { description: 'With `waba_id`' })
], {
  $id: 'Resolved',
  description: 'A configuration; with `waba_id` those of the account',
  examples: [resolvedExample, { configs: [resolvedExample] }]
})

/** The header of an answer. */
export const resolvedEtag = Type.String({
  description: 'Changes with the answer, and shows nothing of it',
  examples: ['"FLK1Ao2MC8RklQ6GhtAwVw"']
})
