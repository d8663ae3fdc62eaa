import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import * as errors from '../../errors.js'
import { Onboarding } from '../../schemas/config.js'

const refusals = Object.entries(errors).filter(([name]) => name.startsWith('Meta')).map(([, ErrorClass]) => ErrorClass)

/** Connecting the tenant's WhatsApp Business Account with the code of a Meta login. */
const onboarding: FastifyPluginAsyncTypebox = async (fastify) => {
  fastify.post('/onboard/whatsapp-client', {
    config: { errors: [...refusals, errors.PhoneNumberTaken, errors.SecretUnreadable, errors.DatabaseUnavailable] },
    schema: {
      operationId: 'onboardWhatsappClient',
      summary: 'Exchange the code, prove the account and the number, store the credentials',
      tags: ['onboarding'],
      body: Onboarding,
      response: {
        200: Type.Ref('MaskedConfig', { description: 'The tenant had a configuration; it holds the new credentials now' }),
        201: Type.Ref('MaskedConfig', { description: 'The tenant had no configuration; it was created' })
      }
    }
  }, async ({ tenant, body: { state, ...claims } }, reply) => {
    const { created, config } = await fastify.onboarding.complete({ tenantId: tenant.id, userId: tenant.userId, ...claims })
    reply.code(created ? 201 : 200)
    return fastify.tenantConfigs.maskedAfterWrite(config)
  })
}

export default onboarding
