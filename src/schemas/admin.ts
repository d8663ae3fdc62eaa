import { Type, type TSchema } from '@sinclair/typebox'
import { createConfigExample, purge } from './config.js'
import { MASK, nullable, pageLimit, tenantId } from './fields.js'
import type { NumberStatus, TokenStatus } from './statuses.js'
import { tokenStatus } from './token-health.js'

/** Configurations on a page when the query has no `limit`. */
export const PAGE_SIZE = 50

// The cursor of a page whose last tenant is `acme`.
const cursorExample = 'YWNtZQ'

/** The query of GET /admin/configs/all. */
export const ListQuery = Type.Object({
  limit: pageLimit(PAGE_SIZE, 'configurations'),
  cursor: Type.Optional(Type.String({ description: '`next_cursor` of the page before', examples: [cursorExample] })),
  is_active: Type.Optional(Type.Boolean({
    description: 'Only those that are served, or only the others',
    examples: [true]
  })),
  onboarding_completed: Type.Optional(Type.Boolean({
    description: 'Only those proven against Meta, or only the others',
    examples: [true]
  })),
  tenant_id: Type.Optional(tenantId({ description: 'Only tenants whose id begins with this', examples: ['ac'] })),
  token_status: Type.Optional(tokenStatus({
    description: 'Only those with an access token of this status',
    examples: ['expiring']
  }))
}, { additionalProperties: false })

/** A page of configurations. */
export const ConfigPage = Type.Object({
  configs: Type.Array(Type.Ref('MaskedConfig'), {
    description: 'By tenant id; each secret reads ****, or null for none'
  }),
  next_cursor: nullable(Type.String({ description: 'Send it as `cursor` for the next page; null on the last one' }))
}, {
  $id: 'ConfigPage',
  description: 'A page of configurations',
  examples: [{
    configs: [createConfigExample({ access_token: MASK, fb_app_secret: MASK, verify_token: MASK })],
    next_cursor: cursorExample
  }]
})

const count = (description: string) => Type.Integer({ minimum: 0, description })

/** The statistics over all tenants. */
export const Stats = Type.Object({
  total: count('All configurations'),
  active: count('Served'),
  inactive: count('Not served'),
  onboarded: count('Proven against Meta'),
  pending: count('Not onboarded'),
  tokens: Type.Object({
    expired: count('Expired already'),
    expiring_7d: count('Expires within 7 days; without the expired ones'),
    expiring_30d: count('Expires within 30 days; with those of expiring_7d, without the expired ones'),
    no_expiry: count('Has a token and no date'),
    missing: count('Has no token')
  }, { description: 'Configurations by the state of their access token' }),
  token_status: Type.Object({
    ok: count('Valid for more than 14 days'),
    expiring: count('It, or its access to data, ends within 14 days'),
    expired: count('Its own date, or that of its access to data, has passed'),
    revoked: count('Meta calls it invalid before its date'),
    unverified: count('Nothing is known of it, or not yet'),
    reauth_required: count('Expired or revoked at two checks: the Meta login must be started again')
  } satisfies Record<TokenStatus, TSchema>, {
    description: 'Configurations that have an access token, by what the last check found of it'
  }),
  number_status: Type.Object({
    ok: count('Can send'),
    pending: count('Not registered yet'),
    low_quality: count('Meta may limit it soon, because of its quality'),
    restricted: count('Meta lets it send little or nothing'),
    missing: count('Its account does not have it, or is not visible any more'),
    none: count('There is no phone_number_id'),
    unknown: count('Nothing is known of it, or not yet')
  } satisfies Record<NumberStatus, TSchema>, {
    description: 'All configurations, by what the last check found of their phone number'
  }),
  keys: Type.Record(Type.String(), count('Has sealed so many stored secrets'), {
    description: 'Stored secrets by the id of the key that sealed them'
  })
}, {
  $id: 'Stats',
  description: 'Configurations, tokens and phone numbers by their state, and secrets by their key',
  examples: [{
    total: 3,
    active: 2,
    inactive: 1,
    onboarded: 2,
    pending: 1,
    tokens: { expired: 0, expiring_7d: 1, expiring_30d: 1, no_expiry: 1, missing: 1 },
    token_status: { ok: 1, expiring: 1, expired: 0, revoked: 0, unverified: 0, reauth_required: 0 } satisfies
      Record<TokenStatus, number>,
    number_status: { ok: 1, pending: 1, low_quality: 0, restricted: 0, missing: 0, none: 1, unknown: 0 } satisfies
      Record<NumberStatus, number>,
    keys: { k2: 5, k1: 0 }
  }]
})

/** The query of DELETE /admin/configs/delete-all. */
export const DeleteAllQuery = Type.Object({
  confirm: Type.Optional(Type.String({
    description: 'The `confirm` of the 428 answer; leave it out to get that answer',
    examples: ['delete-all:3']
  }))
}, { additionalProperties: false })

/** The answer of DELETE /admin/configs/delete-all. */
export const Deleted = Type.Object({
  deleted: count('How many configurations were deleted'),
  batch_id: Type.String({ description: 'Send it to POST /admin/configs/restore to get them back' })
}, {
  $id: 'Deleted',
  description: 'Every configuration is deleted',
  examples: [{ deleted: 3, batch_id: '9f4a2f6e-2a52-4b0e-9a2c-7d1f0c9e6b11' }]
})

/** The query of DELETE /admin/configs/delete-tenant. */
export const DeleteTenantQuery = Type.Object({ purge }, { additionalProperties: false })

/** The path parameter of the routes for one tenant. */
export const TenantParams = Type.Object({ id: tenantId({ description: 'The tenant id', examples: ['acme'] }) })
