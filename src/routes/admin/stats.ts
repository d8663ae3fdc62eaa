import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { DatabaseUnavailable } from '../../errors.js'

/** The statistics over all tenants. One statement counts them, at one moment. */
export default async function stats (fastify: FastifyInstance): Promise<void> {
  fastify.get('/configs/stats', {
    config: { errors: [DatabaseUnavailable], serviceKeyScope: 'configs:read' },
    schema: {
      operationId: 'getStats',
      summary: 'Count configurations, tokens and numbers by their state, and secrets by their key',
      tags: ['admin'],
      response: { 200: Type.Ref('Stats') }
    }
  }, async () => {
    const stats = await fastify.tenantConfigs.stats()
    const { expired, expiring_7d, expiring_30d, no_expiry, missing, token_status, number_status, keys, ...rows } = stats
    const tokens = { expired, expiring_7d, expiring_30d, no_expiry, missing }
    return { ...rows, tokens, token_status, number_status, keys }
  })
}
