import type { FastifyInstance } from 'fastify'
import { throwRouteNotFound } from '../../http/error-handler.js'
import activation from './activation.js'
import audit from './audit.js'
import config from './config.js'
import deletion from './deletion.js'
import effective from './effective.js'
import onboarding from './onboarding.js'
import tokenHealth from './token-health.js'
import verify from './verify.js'
import versions from './versions.js'

/** The routes for tenants, behind their guard. The token alone names the tenant. */
export default async function tenantRoutes (fastify: FastifyInstance): Promise<void> {
  fastify.auth.guardTenant(fastify)
  fastify.limitTenants(fastify)
  fastify.addHook('onRequest', (_request, reply, done) => {
    reply.header('cache-control', 'no-store')
    done()
  })
  fastify.setNotFoundHandler(throwRouteNotFound)

  await fastify.register(config)
  await fastify.register(deletion)
  await fastify.register(effective)
  await fastify.register(activation)
  await fastify.register(versions)
  await fastify.register(verify)
  await fastify.register(onboarding)
  await fastify.register(tokenHealth)
  await fastify.register(audit)
}
