import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { ConfigNotFound, DatabaseUnavailable } from '../../errors.js'

/** Shows the state of the tenant's access token, phone number and account, without a call to Meta. */
export default async function tokenHealth (fastify: FastifyInstance): Promise<void> {
  fastify.get('/config/health', {
    config: { errors: [ConfigNotFound, DatabaseUnavailable] },
    schema: {
      operationId: 'getConfigHealth',
      summary: 'See how the access token, the phone number and the account are',
      description: 'What the watch found when it last asked Meta. ' +
        'It asks once a day, and earlier as the expiry nears; ' +
        'a new token it asks about within half a minute, unless many others are due or Meta lets no calls through.',
      tags: ['config'],
      response: { 200: Type.Ref('TokenHealth') }
    }
  }, async ({ tenant }) => {
    const health = await fastify.tokenWatch.healthOf(tenant.id)
    if (health === null) throw new ConfigNotFound()
    return health
  })
}
