import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { DatabaseUnavailable } from '../../errors.js'

/** Explains the loader's decision for the tenant. */
export default async function effective (fastify: FastifyInstance): Promise<void> {
  fastify.get('/config/effective', {
    config: { errors: [DatabaseUnavailable] },
    schema: {
      operationId: 'getEffectiveConfig',
      summary: 'See what internal code is served, and why',
      description: 'What the loader does for the tenant: it serves the configuration, ' +
        'falls back to the settings of the platform, or refuses. ' +
        'It is an answer, too, that there is no configuration. ' +
        'It is read from the database, not from a cache; no secret is shown.',
      tags: ['config'],
      response: { 200: Type.Ref('EffectiveConfig') }
    }
  }, async ({ tenant }) => await fastify.configLoader.explain(tenant.id))
}
