import { Type, type Static, type TSchema } from '@sinclair/typebox'
import type { ConfigKey } from './columns.js'
import { about, example, maskedExample } from './config.js'
import { MASK, nullable, oneOf, tenantId, timestamp } from './fields.js'

const decisions = ['serve', 'fall_back', 'refuse'] as const
/** The reasons of the loader's decision. */
export const reasons = [
  'ACTIVE_ROW', 'NO_ROW', 'INACTIVE_ROW', 'TENANT_INACTIVE', 'CONFIG_NOT_FOUND', 'TOKEN_DEAD', 'SECRET_UNREADABLE'
] as const
const sources = ['database', 'env', null] as const

const value = (description: string) => Type.Object({
  value: nullable(Type.String({ description: 'What serves; null for nothing' })),
  source: Type.Unsafe<typeof sources[number]>({
    type: ['string', 'null'],
    enum: sources,
    description: '`database`: the row of the tenant; `env`: the platform\'s settings; null where there is no value'
  })
}, { description })
const secret = (description: string) => value(
  `${description}. From the row **** and its last four characters, **** alone when it is short; ` +
  'from the platform\'s settings always **** alone'
)

/** The loader's decision for a tenant, and the values it would serve. */
export const EffectiveConfig = Type.Object({
  tenant_id: tenantId({ description: 'The tenant that was asked for' }),
  decision: oneOf(decisions, {
    description: '`serve`: the row of the tenant; `fall_back`: the platform\'s settings instead; ' +
      '`refuse`: nothing, the loader throws `reason`'
  }),
  reason: oneOf(reasons, {
    description: 'Stable; branch on this. With `serve`: `ACTIVE_ROW`. With `fall_back`: `NO_ROW` or `INACTIVE_ROW`. ' +
      'With `refuse`: `TENANT_INACTIVE`, `CONFIG_NOT_FOUND`, `TOKEN_DEAD` or `SECRET_UNREADABLE`'
  }),
  explanation: Type.String({ description: 'Why, and what to do' }),
  row: Type.Union([Type.Object({
    is_active: Type.Boolean({ description: 'Whether it is turned on' }),
    updated_at: timestamp({ description: 'When it last changed' }),
    key_ids: Type.Array(Type.String(), {
      description: 'Ids of the keys that its access_token, fb_app_secret and verify_token are sealed with'
    }),
    unreadable: Type.Array(Type.String(), { description: 'Those of the three that do not open' })
  }), Type.Null()], { description: 'The row of the tenant; null when it has none' }),
  values: Type.Object({
    phone_id: value(about.phone_number_id),
    access_token: secret(about.access_token),
    waba_id: value(about.waba_id),
    fb_app_id: value(about.fb_app_id),
    fb_app_secret: secret(about.fb_app_secret),
    callback_url: value(about.callback_url),
    redirect_url: value(about.redirect_url),
    verify_token: secret(about.verify_token),
    token_expires_at: value(about.token_expires_at)
  } satisfies Record<ConfigKey, TSchema>, {
    description: 'What serves, and where it comes from; nothing when `decision` is `refuse`'
  })
}, {
  $id: 'EffectiveConfig',
  description: 'What the loader serves the tenant by now, and why; read from the database, not from a cache',
  examples: [{
    tenant_id: 'acme',
    decision: 'serve',
    reason: 'ACTIVE_ROW',
    explanation: 'The tenant has an active configuration, which serves; to change what it serves, send PUT /config.',
    row: { is_active: true, updated_at: '2026-11-23T12:00:00.000000Z', key_ids: ['k1'], unreadable: [] },
    values: {
      phone_id: { value: example.phone_number_id, source: 'database' },
      access_token: { value: maskedExample.access_token, source: 'database' },
      waba_id: { value: example.waba_id, source: 'database' },
      fb_app_id: { value: example.fb_app_id, source: 'env' },
      fb_app_secret: { value: MASK, source: 'env' },
      callback_url: { value: example.callback_url, source: 'database' },
      redirect_url: { value: null, source: null },
      verify_token: { value: maskedExample.verify_token, source: 'database' },
      token_expires_at: { value: example.token_expires_at, source: 'database' }
    } satisfies Record<ConfigKey, object>
  }]
})

export type EffectiveConfig = Static<typeof EffectiveConfig>
