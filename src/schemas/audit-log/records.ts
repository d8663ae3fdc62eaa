import { Type, type TSchema } from '@sinclair/typebox'
import { line, nullable, oneOf, pageLimit, tenantId, timestamp } from '../fields.js'
import { actionNames, auditActions, auditOutcomes, auditRoles } from './names.js'

/** Records on a page when the query has no `limit`. */
export const AUDIT_PAGE_SIZE = 50

const example = {
  tenant_id: 'acme',
  seq: 12,
  at: '2026-11-23T12:00:00.123000Z',
  actor: 'user-1',
  role: 'tenant',
  action: 'config.update',
  outcome: 'ok',
  code: null,
  fields: ['callback_url', 'verify_token'],
  count: 1,
  address: '203.0.113.7',
  request_id: '0b7a3a52-8f0e-4a55-9c1e-2f4d1c6b7a10'
}

// The cursor of a page whose last record is `example`.
const cursorExample = Buffer.from(`${example.seq} ${example.at} ${example.tenant_id}`).toString('base64url')

const page = {
  limit: pageLimit(AUDIT_PAGE_SIZE, 'records'),
  cursor: Type.Optional(Type.String({ description: '`next_cursor` of the page before', examples: [cursorExample] }))
}

/** The query of GET /config/audit. */
export const OwnAuditQuery = Type.Object(page, { additionalProperties: false })

/** The query of GET /admin/audit. */
export const AuditQuery = Type.Object({
  ...page,
  tenant_id: Type.Optional(tenantId({ description: 'Only those of this tenant', examples: ['acme'] })),
  actor: Type.Optional(line(255, { description: 'Only those of this `sub` or key', examples: ['user-1'] })),
  action: Type.Optional(oneOf(actionNames, { description: 'Only those of this action', examples: ['config.update'] })),
  outcome: Type.Optional(oneOf(auditOutcomes, { description: 'Only those that ended so', examples: ['denied'] })),
  from: Type.Optional(timestamp({ description: 'Only those at or after this', examples: [example.at] })),
  to: Type.Optional(timestamp({ description: 'Only those before this', examples: ['2026-11-24T00:00:00Z'] }))
}, { additionalProperties: false })

const textOrNull = (description: string) => nullable(Type.String({ description }))

/** A record of the audit log. */
export const AuditRecord = Type.Object({
  tenant_id: textOrNull('Whose record it is; null when it is about no tenant, or about all'),
  seq: Type.Integer({ minimum: 1, description: 'Its number among those of the tenant, without gaps' }),
  at: timestamp({ description: 'When the request ended, by the clock of the instance' }),
  actor: textOrNull('`sub` of the token, or the id of the key; null when there is none, or it is not shown'),
  role: oneOf(auditRoles, { description: 'As what it was done; `system` is the service by itself' }),
  action: oneOf(actionNames, {
    description: Object.entries(auditActions).map(([name, meaning]) => `\`${name}\`: ${meaning}`).join('. ')
  }),
  outcome: oneOf(auditOutcomes, {
    description: '`denied` by a guard, `refused` with any other 4xx, `failed` with 5xx'
  }),
  code: textOrNull('The code of the error; null when there was none'),
  fields: Type.Array(Type.String(), { description: 'The names of the fields that were sent, never their values' }),
  count: Type.Integer({
    minimum: 1,
    description: 'How many requests it stands for: more than one only for `config.resolve`'
  }),
  address: textOrNull('The address of the client; null when there is none, or it is not shown'),
  request_id: textOrNull('`request_id` of the request')
} satisfies Record<keyof typeof example, TSchema>, {
  $id: 'AuditRecord',
  description: 'Who did what, and how it ended',
  examples: [example]
})

/** A page of records. */
export const AuditPage = Type.Object({
  records: Type.Array(Type.Ref('AuditRecord'), { description: 'The newest first' }),
  next_cursor: nullable(Type.String({ description: 'Send it as `cursor` for the next page; null on the last one' }))
}, {
  $id: 'AuditPage',
  description: 'A page of records',
  examples: [{ records: [example], next_cursor: cursorExample }]
})
