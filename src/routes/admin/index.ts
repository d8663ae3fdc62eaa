import type { FastifyInstance } from 'fastify'
import { throwRouteNotFound } from '../../http/error-handler.js'
import configs from './configs.js'
import events from './events.js'
import restore from './restore.js'
import serviceKeys from './service-keys.js'
import stats from './stats.js'

/** The routes for admins, behind their guard, which admits service keys to some. */
export default async function adminRoutes (fastify: FastifyInstance): Promise<void> {
  fastify.auth.guardAdmin(fastify)
  fastify.limitServiceKeys(fastify)
  fastify.addHook('onRequest', (_request, reply, done) => {
    reply.header('cache-control', 'no-store')
    done()
  })
  fastify.setNotFoundHandler(throwRouteNotFound)

  await fastify.register(configs)
  await fastify.register(restore)
  await fastify.register(events)
  await fastify.register(stats)
  await fastify.register(serviceKeys)
}
