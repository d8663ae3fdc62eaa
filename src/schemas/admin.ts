import { Type } from '@sinclair/typebox'
import { tenantId } from './fields.js'

/** How many configurations a page has unless the query says. */
export const PAGE_SIZE = 50

/** The query of GET /admin/configs/all. */
export const ListQuery = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: PAGE_SIZE })),
  cursor: Type.Optional(Type.String({ description: '`next_cursor` of the page before' })),
  is_active: Type.Optional(Type.Boolean()),
  onboarding_completed: Type.Optional(Type.Boolean()),
  tenant_id: Type.Optional(tenantId({ description: 'Only tenants whose id begins with this' }))
}, { additionalProperties: false })

/** A page of configurations. */
export const ConfigPage = Type.Object({
  configs: Type.Array(Type.Ref('MaskedConfig')),
  next_cursor: Type.Union([Type.String(), Type.Null()], { description: 'null on the last page' })
}, { $id: 'ConfigPage' })

const count = (description?: string) => Type.Integer({ minimum: 0, ...(description === undefined ? {} : { description }) })

/** The statistics over all tenants. */
export const Stats = Type.Object({
  total: count(),
  active: count(),
  inactive: count(),
  onboarded: count(),
  pending: count('Not onboarded'),
  tokens: Type.Object({
    expired: count(),
    expiring_7d: count('Expires within 7 days; without the expired ones'),
    expiring_30d: count('Expires within 30 days; with those of expiring_7d, without the expired ones'),
    no_expiry: count('Has a token and no date'),
    missing: count('Has no token')
  })
}, {
  $id: 'Stats',
  examples: [{ total: 3, active: 2, inactive: 1, onboarded: 2, pending: 1, tokens: { expired: 0, expiring_7d: 1, expiring_30d: 1, no_expiry: 1, missing: 1 } }]
})

/** The query of DELETE /admin/configs/delete-all. */
export const DeleteAllQuery = Type.Object({
  confirm: Type.Optional(Type.String({ description: 'The `confirm` of the 428 answer' }))
}, { additionalProperties: false })

/** What delete-all answers. */
export const Deleted = Type.Object({ deleted: count('How many configurations were deleted') }, { $id: 'Deleted', examples: [{ deleted: 3 }] })

/** The path of DELETE /admin/configs/delete-tenant/{id}. */
export const TenantParams = Type.Object({ id: tenantId({ description: 'The tenant id' }) })
