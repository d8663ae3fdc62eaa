import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ServiceClosing } from './errors.js'
import { sharedController } from './waiting/wait-for.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Aborted, with `SERVICE_CLOSING` as its reason, as soon as the service begins to close. */
    closing: AbortSignal
  }
}

/** Decorates `fastify.closing`. */
async function closing (fastify: FastifyInstance): Promise<void> {
  const controller = sharedController()
  fastify.decorate('closing', controller.signal)
  fastify.addHook('preClose', async () => { controller.abort(new ServiceClosing()) })
}

export default fp(closing, { name: 'closing' })
