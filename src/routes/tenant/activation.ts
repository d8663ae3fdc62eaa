import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { ConfigNotFound, DatabaseUnavailable } from '../../errors.js'
import { NoBody } from '../../schemas/config.js'

/** Turns the tenant's configuration on and off. Both are idempotent. */
export default async function activation (fastify: FastifyInstance): Promise<void> {
  const { tenantConfigs } = fastify

  for (const [action, active] of [['activate', true], ['deactivate', false]] as const) {
    fastify.post(`/config/${action}`, {
      config: { errors: [ConfigNotFound, DatabaseUnavailable] },
      schema: {
        operationId: `${action}Config`,
        summary: active ? 'Serve this configuration' : 'Stop serving this configuration, keep it',
        tags: ['config'],
        body: NoBody,
        response: { 200: Type.Ref('MaskedConfig') }
      }
    }, async ({ tenant }) => tenantConfigs.maskedAfterWrite(await tenantConfigs.setActive(tenant.id, active)))
  }
}
