import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ServiceClosing } from './errors.js'
import { sharedController } from './waiting/wait-for.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Aborted with the reason `SERVICE_CLOSING` when the service begins to close. */
    closing: AbortSignal
  }
}

async function closing (fastify: FastifyInstance): Promise<void> {
  const controller = sharedController()
  fastify.decorate('closing', controller.signal)
  fastify.addHook('preClose', async () => { controller.abort(new ServiceClosing()) })
}

export default fp(closing, { name: 'closing' })
