import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ServiceClosing } from '../errors.js'

declare module 'fastify' {
  interface FastifyInstance { readiness: Readiness }
}

export type Readiness = ReturnType<typeof createReadiness>

/** Creates the answer to load balancers: whether they may send requests to this process. */
export function createReadiness () {
  let isLeaving = false
  return {
    /** From now on load balancers learn that the process is about to close. It still serves. */
    leave (): void { isLeaving = true },
    /** @throws ServiceClosing after `leave` */
    assertStaying (): void { if (isLeaving) throw new ServiceClosing() }
  }
}

/** Decorates `fastify.readiness`. The close of the server ends it, if nothing did before. */
async function readiness (fastify: FastifyInstance): Promise<void> {
  const readiness = createReadiness()
  fastify.decorate('readiness', readiness)
  fastify.addHook('preClose', async () => { readiness.leave() })
}

export default fp(readiness, { name: 'readiness' })
