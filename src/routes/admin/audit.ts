import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { DatabaseUnavailable, InvalidCursor } from '../../errors.js'
import { AUDIT_PAGE_SIZE, AuditQuery } from '../../schemas/audit-log/records.js'

/** The audit log of all tenants, for auditors and admins, behind a guard of its own. */
const audit: FastifyPluginAsyncTypebox = async (fastify) => {
  fastify.auth.guardAuditor(fastify)
  fastify.addHook('onRequest', (_request, reply, done) => {
    reply.header('cache-control', 'no-store')
    done()
  })

  fastify.get('/audit', {
    config: { errors: [InvalidCursor, DatabaseUnavailable], audit: { action: 'audit.read' } },
    schema: {
      operationId: 'listAudit',
      summary: 'See who did what, of all tenants, a page at a time',
      description: 'For the auditor role too. Reading it is recorded.',
      tags: ['admin'],
      querystring: AuditQuery,
      response: { 200: Type.Ref('AuditPage') }
    }
  }, async ({ query: { limit = AUDIT_PAGE_SIZE, ...query } }) => {
    const { records, next } = await fastify.audit.list({ ...query, limit })
    return { records, next_cursor: next }
  })
}

export default audit
