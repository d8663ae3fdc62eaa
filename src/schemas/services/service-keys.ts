import { Type, type Static, type TSchema } from '@sinclair/typebox'
import { nullable, oneOf, pageLimit, tenantId, text, timestamp } from '../fields.js'

/** The scopes of service keys, with what each one allows. */
export const serviceKeyScopes = {
  'credentials:read': 'Read the credentials of tenants in clear, with GET /resolve',
  'onboarding:links': 'Create links for onboardings',
  'configs:read': 'Read configurations and statistics as an admin does, secrets masked'
} as const

export type ServiceKeyScope = keyof typeof serviceKeyScopes

const scopeNames = Object.keys(serviceKeyScopes).filter((name): name is ServiceKeyScope => name in serviceKeyScopes)

/** Keys on a page when the query has no `limit`. */
export const KEYS_PAGE_SIZE = 50

/** The characters of the id of a key; the oldest key sorts first. */
export const SERVICE_KEY_ID = '[0-9a-f]{20}'

const MAX_TENANTS = 500

const example = {
  id: '019ac1d4b0c05be1f2a4',
  name: 'campaign worker',
  scopes: ['credentials:read' as const],
  tenants: ['acme', 'shop'],
  expires_at: '2027-11-23T12:00:00.000000Z',
  created_at: '2026-11-23T12:00:00.000000Z',
  created_by: 'user-1',
  last_used_at: '2026-11-24T08:30:00.000000Z'
}

const scopes = () => Type.Array(oneOf(scopeNames, {}), {
  minItems: 1,
  uniqueItems: true,
  description: Object.entries(serviceKeyScopes).map(([name, meaning]) => `\`${name}\`: ${meaning}`).join('. ')
})

/** The body of POST /admin/service-keys. */
export const ServiceKeyCreate = Type.Object({
  name: text(100, { description: 'What it is for' }),
  scopes: scopes(),
  tenants: Type.Optional(Type.Array(tenantId(), {
    minItems: 1,
    maxItems: MAX_TENANTS,
    uniqueItems: true,
    description: 'The only tenants that it may read; leave it out for all'
  })),
  expires_at: Type.Optional(timestamp({ description: 'RFC 3339 with an offset; leave it out for a key without end' }))
}, {
  additionalProperties: false,
  description: 'What the key may do',
  examples: [{
    name: example.name, scopes: example.scopes, tenants: example.tenants, expires_at: '2027-11-23T12:00:00Z'
  }]
})
export type ServiceKeyCreate = Static<typeof ServiceKeyCreate>

const fields = {
  id: Type.String({ description: 'Its part of the key that is no secret; logs have it as `key_id`' }),
  name: Type.String({ description: 'What it is for' }),
  scopes: scopes(),
  tenants: Type.Unsafe<string[] | null>({
    type: ['array', 'null'], items: Type.String(), description: 'The only tenants that it may read; null for all'
  }),
  expires_at: nullable(timestamp({ description: 'When it ends; null for no end' })),
  created_at: timestamp({ description: 'When it was created' }),
  created_by: nullable(Type.String({ description: '`sub` of the token that created it' })),
  last_used_at: nullable(timestamp({ description: 'When it was last used, to the minute; null for never' }))
} satisfies Record<keyof typeof example, TSchema>

/** A service key, without its secret. */
export const ServiceKey = Type.Object(fields, {
  $id: 'ServiceKey', description: 'A key for code of the platform', examples: [example]
})

/** A new service key: the only answer that shows it. */
export const NewServiceKey = Type.Object({
  ...fields,
  key: Type.String({ description: 'Secret, shown only now: send it as `Authorization: Bearer`' })
}, {
  $id: 'NewServiceKey',
  description: 'A new key, with its secret',
  examples: [{ ...example, last_used_at: null, key: `wtc_${example.id}_gJ0Nq7vCk3yXW1sT5bLZ8uHfR2mDaE6pV9oKxYiQwAs` }]
})

/** The query of GET /admin/service-keys. */
export const ServiceKeysQuery = Type.Object({
  limit: pageLimit(KEYS_PAGE_SIZE, 'keys'),
  cursor: Type.Optional(Type.String({ description: '`next_cursor` of the page before', examples: [example.id] }))
}, { additionalProperties: false })

/** A page of service keys. */
export const ServiceKeyPage = Type.Object({
  service_keys: Type.Array(Type.Ref('ServiceKey'), { description: 'The newest first' }),
  next_cursor: nullable(Type.String({ description: 'Send it as `cursor` for the next page; null on the last one' }))
}, {
  $id: 'ServiceKeyPage',
  description: 'A page of service keys',
  examples: [{ service_keys: [example], next_cursor: example.id }]
})

/** The path parameter of the routes for one key. */
export const ServiceKeyParams = Type.Object({
  id: Type.String({ pattern: `^${SERVICE_KEY_ID}$`, description: 'The `id` of a key', examples: [example.id] })
})
