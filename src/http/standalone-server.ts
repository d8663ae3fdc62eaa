import { randomUUID } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import type { DestinationStream } from 'pino'
import { createRequestLogger, loggerOptions } from '../logger.js'
import type { Env } from '../settings/env.js'
import { answerUnreadable, refuseTunnel } from './client-errors.js'
import { drainOnClose } from './drain.js'
import { handleError } from './error-handler.js'
import { isDecodable } from './url.js'

/** The time in which a whole request must arrive. */
const REQUEST_TIMEOUT_MS = 30_000
// The longest URL that Node reads, 16 KiB: a long id reaches its schema, behind the guard.
const MAX_PARAM_LENGTH = 16 * 1024

/** Creates the Fastify server of `buildApp`, without any plugin. The log goes to `logTo`, else to stdout. */
export function createStandaloneServer (settings: Env, logTo?: DestinationStream): FastifyInstance {
  const fastify: FastifyInstance = Fastify({
    logger: { ...loggerOptions(settings.LOG_LEVEL), ...(logTo === undefined ? {} : { stream: logTo }) },
    childLoggerFactory: createRequestLogger,
    genReqId: () => randomUUID(),
    trustProxy: parseTrustProxy(settings.TRUST_PROXY),
    requestTimeout: REQUEST_TIMEOUT_MS,
    http: {
      // Node applies the longer of the two timeouts.
      headersTimeout: REQUEST_TIMEOUT_MS,
      // Node checks both timeouts at this interval (ms).
      connectionsCheckingInterval: 1000,
      // Node would answer a missing Host header without a body; the plugin `protocol` answers a problem.
      requireHostHeader: false
    },
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    // Every wait of the start has its own timeout, and an error that names it. A migration has no bound.
    pluginTimeout: 0,
    // Requests in progress are answered while the server closes.
    return503OnClosing: false,
    // Fastify would refuse an undecodable URL before any guard. Escaped, it is refused behind the guard.
    rewriteUrl: ({ url = '/' }) => isDecodable(url) ? url : url.replaceAll('%', '%25'),
    frameworkErrors: handleError,
    clientErrorHandler: (err, socket) => { answerUnreadable(fastify.log, err, socket) }
  })
  // Node would drop every header after the 2,000th, also a second Host. Its limit of 16 KiB bounds them.
  fastify.server.maxHeadersCount = 0
  // Node would answer an unknown expectation with 417 and no body, and a CONNECT request not at all.
  fastify.server.on('checkExpectation', fastify.routing)
  fastify.server.on('connect', (_request, socket) => { refuseTunnel(fastify.log, socket) })
  endKeepAliveOnClose(fastify)
  drainOnClose(fastify)
  return fastify
}

/** Sends `connection: close` while the server closes: it waits for connections, and keep-alive would hold them open. */
function endKeepAliveOnClose (fastify: FastifyInstance): void {
  let isClosing = false
  fastify.addHook('preClose', async () => { isClosing = true })
  fastify.addHook('onSend', (_request, reply, _payload, done) => {
    if (isClosing) reply.header('connection', 'close')
    done()
  })
}

/** Converts `TRUST_PROXY` to Fastify's option: a switch, a number of hops, or addresses. */
function parseTrustProxy (setting: string): boolean | string | ((address: string, hop: number) => boolean) {
  if (setting === 'true' || setting === 'false') return setting === 'true'
  return /^\d+$/.test(setting) ? (_address, hop) => hop < Number(setting) : setting
}
