import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { DatabaseUnavailable, InvalidCursor } from '../../errors.js'
import { AUDIT_PAGE_SIZE, OwnAuditQuery } from '../../schemas/audit-log/records.js'

/** Shows the tenant its own audit log. */
const audit: FastifyPluginAsyncTypebox = async (fastify) => {
  fastify.get('/config/audit', {
    config: { errors: [InvalidCursor, DatabaseUnavailable] },
    schema: {
      operationId: 'listOwnAudit',
      summary: 'See who did what with the configuration, a page at a time',
      description: 'Also what the platform did, and the service by itself: without an actor and an address.',
      tags: ['config'],
      querystring: OwnAuditQuery,
      response: { 200: Type.Ref('AuditPage') }
    }
  }, async ({ tenant, query: { limit = AUDIT_PAGE_SIZE, cursor } }) => {
    const { records, next } = await fastify.audit.listOwn(tenant.id, { limit, cursor })
    return { records, next_cursor: next }
  })
}

export default audit
