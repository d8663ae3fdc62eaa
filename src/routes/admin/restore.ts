import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { DatabaseUnavailable, InvalidCursor, VersionNotFound } from '../../errors.js'
import { RestoreBody } from '../../schemas/history/versions.js'

/** Restores deleted configurations. */
const restore: FastifyPluginAsyncTypebox = async (fastify) => {
  const { tenantConfigs } = fastify

  fastify.post('/configs/restore', {
    config: {
      errors: [VersionNotFound, InvalidCursor, DatabaseUnavailable],
      audit: { action: 'config.restore', tenantField: 'tenant_id' }
    },
    schema: {
      operationId: 'restoreConfigs',
      summary: 'Restore the deleted configuration of a tenant, or all of a delete-all',
      description: 'What exists again is left alone and named. The same request again restores what is left.',
      tags: ['admin'],
      body: RestoreBody,
      response: { 200: Type.Ref('Restored') }
    }
  }, async ({ body }) => {
    const { next, ...rest } = 'tenant_id' in body
      ? await tenantConfigs.versions.restoreTenant(body.tenant_id)
      : await tenantConfigs.versions.restoreBatch(body.batch_id, body.cursor)
    return { ...rest, next_cursor: next }
  })
}

export default restore
