import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { DestinationStream } from 'pino'
import accountUpdates from './account-updates/account-updates.js'
import audit from './audit/audit.js'
import auth from './auth/auth.js'
import closing from './closing.js'
import configCounts from './config-counts/config-counts.js'
import configLoader from './config-loader/config-loader.js'
import database from './database/database.js'
import events from './events/events.js'
import cors from './http/admission/cors.js'
import overload from './http/admission/overload.js'
import rateLimits from './http/admission/rate-limits.js'
import auditRequests from './http/audit-log/requests.js'
import errorHandler, { throwRouteNotFound } from './http/error-handler.js'
import openapi from './http/openapi/openapi.js'
import protocol from './http/protocol.js'
import readiness from './http/readiness.js'
import requestParsing from './http/request-parsing.js'
import { createStandaloneServer } from './http/standalone-server.js'
import idempotency from './idempotency/idempotency.js'
import metaGraph from './meta/meta-graph.js'
import metrics from './metrics/metrics.js'
import offboarding from './offboarding/offboarding.js'
import onboarding from './onboarding/onboarding.js'
import outbound from './outbound/outbound.js'
import retention from './retention/retention.js'
import accountUpdate from './routes/account-update.js'
import auditLog from './routes/admin/audit.js'
import adminRoutes from './routes/admin/index.js'
import health from './routes/health.js'
import resolve from './routes/resolve.js'
import tenantRoutes from './routes/tenant/index.js'
import serviceKeys from './service-keys/service-keys.js'
import env, { readEnv, readEnvironment, type Env, type EnvSource } from './settings/env.js'
import tenantConfigs from './tenant-configs/tenant-configs.js'
import tenantQueues from './tenant-queues/tenant-queues.js'
import tokenWatch from './token-watch/token-watch.js'
import tracing from './tracing/tracing.js'
import vault from './vault/vault.js'
import verification from './verification/verification.js'

export { createConfigLoader } from './config-loader/standalone.js'
export type { ConfigSnapshot, ConfigSources, ConfigValues } from './config-loader/snapshot.js'
export type { Explanation } from './config-loader/explain.js'
export type { ConfigLoader, LoaderStats } from './config-loader/config-loader.js'
export type { EnvSource } from './settings/env.js'

export interface HttpApiOptions {
  /** Precedes every path, such as `/whatsapp`. */
  prefix?: string | undefined
  /** Whether `/docs` is served; `API_DOCS` can turn it off too. */
  docs?: boolean | undefined
  /** Whether `/health/live` and `/health/ready` are served. */
  health?: boolean | undefined
}

export interface PluginOptions extends HttpApiOptions {
  /** Settings in place of the process environment and `.env`. */
  env?: EnvSource | undefined
}

/** The whole service as a plugin: `fastify.configLoader`, the other decorators, and the HTTP API in its own scope. */
async function whatsappTenantConfig (fastify: FastifyInstance, options: PluginOptions): Promise<void> {
  const { env: source, prefix = '', ...apiOptions } = options
  await fastify.register(env, { env: source })
  await fastify.register(closing)
  await fastify.register(outbound)
  await fastify.register(readiness)
  await fastify.register(database)
  await fastify.register(vault)
  await fastify.register(tenantConfigs)
  await fastify.register(configLoader)
  await fastify.register(metaGraph)
  await fastify.register(events)
  await fastify.register(audit)
  await fastify.register(serviceKeys)
  await fastify.register(auth)
  await fastify.register(tokenWatch)
  await fastify.register(tenantQueues)
  await fastify.register(onboarding)
  await fastify.register(retention)
  await fastify.register(configCounts)
  await fastify.register(verification)
  await fastify.register(offboarding)
  await fastify.register(accountUpdates)
  await fastify.register(metrics)
  // fastify-plugin gives this plugin no scope and no prefix: the decorators are for the whole server.
  await fastify.register(httpApi, { prefix: prefix.replace(/\/+$/, ''), ...apiOptions })
}

/** Registers the HTTP API in a scope: its hooks and handlers must not change the routes of a host server. */
export async function httpApi (fastify: FastifyInstance, options: HttpApiOptions): Promise<void> {
  const { docs = true, health: hasHealth = true } = options
  if (!fastify.hasPlugin('protocol')) await observeAndProtect(fastify, fastify.env)
  await fastify.register(errorHandler)
  await fastify.register(requestParsing)
  await fastify.register(openapi, { docs })
  if (hasHealth) await fastify.register(health)
  await fastify.register(limitedApi, { prefix: '/api/v1/tenant' })
}

/** The routes that have limits. The probes have none: a load balancer must not take a busy instance for a dead one. */
async function limitedApi (fastify: FastifyInstance): Promise<void> {
  // First: a page must be able to read the refusals of all others.
  await fastify.register(cors)
  await fastify.register(overload)
  await fastify.register(rateLimits)
  await fastify.register(auditRequests)
  await fastify.register(idempotency)
  await fastify.register(accountUpdate)
  await fastify.register(resolve)
  await fastify.register(tenantRoutes)
  await fastify.register(adminRoutes, { prefix: '/admin' })
  await fastify.register(auditLog, { prefix: '/admin' })
}

/**
 * Adds the hooks that come before all others: a guard that refuses a request ends its hooks. The standalone server adds
 * them at the root, for unknown routes too.
 */
async function observeAndProtect (scope: FastifyInstance, { METRICS_PORT }: Pick<Env, 'METRICS_PORT'>): Promise<void> {
  if (METRICS_PORT !== undefined) {
    scope.addHook('onRequest', (request, reply, done) => {
      scope.metrics.observe(request, reply)
      done()
    })
  }
  await scope.register(tracing)
  await scope.register(protocol)
}

const plugin = fp(whatsappTenantConfig, { name: 'whatsapp-tenant-config', fastify: '5.x' })
export default plugin

interface BuildOptions {
  /** The stream of the log, in place of stdout. */
  logTo?: DestinationStream | undefined
}

/**
 * Builds the service as a standalone server that does not listen yet.
 *
 * @param source settings in place of the process environment and `.env`
 * @throws Error that names every unusable setting, or why the database or the key ring cannot be used
 */
export async function buildApp (source?: EnvSource, { logTo }: BuildOptions = {}): Promise<FastifyInstance> {
  const { given, warnings } = await readEnvironment(source)
  const settings = await readEnv(given)
  const fastify = createStandaloneServer(settings, logTo)
  for (const warning of warnings) fastify.log.warn(warning)
  await observeAndProtect(fastify, settings)
  await fastify.register(errorHandler)
  fastify.setNotFoundHandler(throwRouteNotFound)
  try {
    await fastify.register(plugin, { env: settings })
    await fastify.ready()
  } catch (err) {
    // Stops what the plugins started before the fault, such as the embedded database.
    await fastify.close()
    throw err
  }
  return fastify
}
