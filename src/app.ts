import { randomUUID } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { DestinationStream } from 'pino'
import { drainOnClose } from './http/drain.js'
import { loggerOptions } from './logger.js'
import accountUpdates from './account-updates/account-updates.js'
import auth from './http/auth.js'
import closing from './closing.js'
import configLoader from './config-loader/config-loader.js'
import database from './database/database.js'
import env, { readEnv, readEnvironment, type EnvSource } from './settings/env.js'
import errorHandler, { handleError, throwRouteNotFound } from './http/error-handler.js'
import events from './events/events.js'
import requestParsing from './http/request-parsing.js'
import offboarding from './offboarding/offboarding.js'
import metaGraph from './meta/meta-graph.js'
import onboarding from './onboarding/onboarding.js'
import openapi from './http/openapi.js'
import protocol from './http/protocol.js'
import retention from './retention/retention.js'
import tenantConfigs from './tenant-configs/tenant-configs.js'
import tenantQueues from './tenant-queues/tenant-queues.js'
import tokenWatch from './token-watch/token-watch.js'
import vault from './vault/vault.js'
import verification from './verification/verification.js'
import accountUpdate from './routes/account-update.js'
import adminRoutes from './routes/admin/index.js'
import health from './routes/health.js'
import tenantRoutes from './routes/tenant/index.js'
import { answerUnreadable, refuseTunnel } from './http/client-errors.js'
import { isDecodable } from './http/url.js'

export { createConfigLoader } from './config-loader/standalone.js'
export type { ConfigSnapshot, ConfigSources, ConfigValues } from './config-loader/snapshot.js'
export type { Explanation } from './config-loader/explain.js'
export type { ConfigLoader, LoaderStats } from './config-loader/config-loader.js'
export type { EnvSource } from './settings/env.js'

/** Within this time a request must have arrived whole. */
const REQUEST_TIMEOUT_MS = 30_000
// No shorter than the longest URL Node reads (16 KiB), so that an id is judged by its schema, behind the guard.
const LONGEST_PARAM = 16 * 1024

export interface HttpApiOptions {
  /** Stands before every path, such as `/whatsapp`. */
  prefix?: string | undefined
  /** Whether there is `/docs`; `API_DOCS` can turn it off too. */
  docs?: boolean | undefined
  /** Whether there are `/health/live` and `/health/ready`. */
  health?: boolean | undefined
}

export interface PluginOptions extends HttpApiOptions {
  /** Settings in place of the process environment and `.env`. */
  env?: EnvSource | undefined
}

/** The whole service as a plugin: `fastify.configLoader` and the other decorators, and the HTTP API in a scope of its own. */
async function whatsappTenantConfig (fastify: FastifyInstance, { env: source, prefix = '', ...options }: PluginOptions): Promise<void> {
  await fastify.register(env, { env: source })
  await fastify.register(closing)
  await fastify.register(database)
  await fastify.register(auth)
  await fastify.register(vault)
  await fastify.register(tenantConfigs)
  await fastify.register(configLoader)
  await fastify.register(metaGraph)
  await fastify.register(tokenWatch)
  await fastify.register(tenantQueues)
  await fastify.register(onboarding)
  await fastify.register(retention)
  await fastify.register(events)
  await fastify.register(verification)
  await fastify.register(offboarding)
  await fastify.register(accountUpdates)
  // The decorators are for the whole server, so Fastify gives this plugin no scope and no prefix. The API gets both here.
  await fastify.register(httpApi, { prefix: prefix.replace(/\/+$/, ''), ...options })
}

/** What only concerns our own routes, and must not change those of a server we are a part of. */
export async function httpApi (fastify: FastifyInstance, { docs = true, health: hasHealth = true }: HttpApiOptions): Promise<void> {
  // In a server of our own it covers unknown routes too.
  if (!fastify.hasPlugin('protocol')) await fastify.register(protocol)
  await fastify.register(errorHandler)
  await fastify.register(requestParsing)
  await fastify.register(openapi, { docs })
  if (hasHealth) await fastify.register(health)
  await fastify.register(accountUpdate, { prefix: '/api/v1/tenant' })
  await fastify.register(tenantRoutes, { prefix: '/api/v1/tenant' })
  await fastify.register(adminRoutes, { prefix: '/api/v1/tenant/admin' })
}

const plugin = fp(whatsappTenantConfig, { name: 'whatsapp-tenant-config', fastify: '5.x' })
export default plugin

/**
 * Builds the service as a server of its own, not yet listening.
 * Takes settings in place of the process environment and `.env`, and a stream in place of stdout for the log.
 * Throws one error that names every unusable setting, and whatever keeps the database or the key ring from being used.
 */
export async function buildApp (source?: EnvSource, { logTo }: { logTo?: DestinationStream | undefined } = {}): Promise<FastifyInstance> {
  const { given, warnings } = await readEnvironment(source)
  const settings = await readEnv(given)
  const fastify = Fastify({
    logger: { ...loggerOptions(settings.LOG_LEVEL), ...(logTo === undefined ? {} : { stream: logTo }) },
    genReqId: () => randomUUID(),
    trustProxy: parseTrustProxy(settings.TRUST_PROXY),
    requestTimeout: REQUEST_TIMEOUT_MS,
    // Node would answer a missing Host header itself; the plugin protocol does so with a problem.
    // Node lets a request take the longer of the two timeouts, and looks for late ones at this interval.
    http: { headersTimeout: REQUEST_TIMEOUT_MS, connectionsCheckingInterval: 1000, requireHostHeader: false },
    routerOptions: { maxParamLength: LONGEST_PARAM },
    // Each wait during the start has a limit of its own, and says what it waited for; only a migration takes the time it takes.
    pluginTimeout: 0,
    // What is under way when closing begins is answered; `connection: close` below tells clients to go elsewhere next.
    return503OnClosing: false,
    // A URL that cannot be decoded would be refused before any guard; taken literally, it is refused behind them.
    rewriteUrl: ({ url = '/' }) => isDecodable(url) ? url : url.replaceAll('%', '%25'),
    frameworkErrors: handleError,
    clientErrorHandler: (err, socket) => { answerUnreadable(fastify.log, err, socket) }
  })
  for (const warning of warnings) fastify.log.warn(warning)
  // Node would ignore every header after the 2,000th, a second Host among them; 16 KiB bound them all.
  fastify.server.maxHeadersCount = 0
  // Node would answer these two itself: 417 without a body, and nothing.
  fastify.server.on('checkExpectation', fastify.routing)
  fastify.server.on('connect', (_request, socket) => { refuseTunnel(fastify.log, socket) })
  await fastify.register(protocol)
  await fastify.register(errorHandler)
  fastify.setNotFoundHandler(throwRouteNotFound)
  // Closing waits for connections: one whose request was under way would be kept alive after its answer.
  let closing = false
  fastify.addHook('preClose', async () => { closing = true })
  fastify.addHook('onSend', (_request, reply, _payload, done) => {
    if (closing) reply.header('connection', 'close')
    done()
  })
  drainOnClose(fastify)
  try {
    await fastify.register(plugin, { env: settings })
    await fastify.ready()
  } catch (err) {
    // What was opened before the fault, the embedded database above all, must not stay.
    await fastify.close()
    throw err
  }
  return fastify
}

/** What Fastify makes of `TRUST_PROXY`. */
function parseTrustProxy (setting: string): boolean | string | ((address: string, hop: number) => boolean) {
  if (setting === 'true' || setting === 'false') return setting === 'true'
  return /^\d+$/.test(setting) ? (_address, hop) => hop < Number(setting) : setting
}
