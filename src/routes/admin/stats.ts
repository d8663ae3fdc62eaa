import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { DatabaseUnavailable } from '../../errors.js'

/** Counts over all tenants, all of the same moment. */
export default async function stats (fastify: FastifyInstance): Promise<void> {
  fastify.get('/configs/stats', {
    config: { errors: [DatabaseUnavailable] },
    schema: { operationId: 'getStats', summary: 'Count configurations and tokens by their state', tags: ['admin'], response: { 200: Type.Ref('Stats') } }
  }, async () => {
    const { expired, expiring_7d, expiring_30d, no_expiry, missing, token_status, ...rows } = await fastify.tenantConfigs.stats()
    return { ...rows, tokens: { expired, expiring_7d, expiring_30d, no_expiry, missing }, token_status }
  })
}
