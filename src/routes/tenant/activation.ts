import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { ConfigNotFound, DatabaseUnavailable, PreconditionFailed } from '../../errors.js'
import { readIfMatch } from '../../http/conditional/entity-tags.js'
import { etag, IfMatch, NoBody } from '../../schemas/config.js'

/** Turns the tenant's configuration on and off. Both are idempotent. */
export default async function activation (fastify: FastifyInstance): Promise<void> {
  const { tenantConfigs } = fastify

  for (const [action, active] of [['activate', true], ['deactivate', false]] as const) {
    fastify.post(`/config/${action}`, {
      config: {
        errors: [ConfigNotFound, PreconditionFailed, DatabaseUnavailable], audit: { action: `config.${action}` }
      },
      schema: {
        operationId: `${action}Config`,
        summary: active ? 'Serve this configuration' : 'Stop serving this configuration, keep it',
        tags: ['config'],
        headers: IfMatch,
        body: NoBody,
        response: { 200: Type.Ref('MaskedConfig', { headers: { etag } }) }
      }
    }, async ({ tenant, headers }, reply) => {
      const row = await tenantConfigs.setActive(tenant.id, active, {
        ifMatch: readIfMatch(headers), actor: tenant.userId
      })
      reply.header('etag', row.etag)
      return tenantConfigs.maskedAfterWrite(row)
    })
  }
}
