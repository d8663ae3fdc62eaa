import rateLimit, { normalizeIP } from '@fastify/rate-limit'
import Fastify, { type FastifyError, type FastifyInstance, type FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { RateLimited, Unauthenticated } from '../../errors.js'
import { handleError } from '../error-handler.js'
import { addErrors } from '../route-errors.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Limits the requests of each tenant to the routes of this scope. Call it after the guard. */
    limitTenants: (scope: FastifyInstance) => void
    /** Limits the requests of each service key to the routes of this scope. Call it after the guard. */
    limitServiceKeys: (scope: FastifyInstance) => void
  }
  interface FastifyRequest {
    /** The address of the client behind the trusted proxies; its network for IPv6. */
    clientNetwork: string
  }
  interface FastifyContextConfig {
    /** Whether the route calls Meta: its requests also count against `RATE_LIMIT_META_PER_MINUTE`. */
    callsMeta?: boolean
  }
}

/** Tokens of one address that may fail in a minute. */
const FAILED_TOKENS_PER_MINUTE = 60
/**
 * The counters of one limit. The least recently used is dropped first, so a client that reaches the limit keeps its
 * own unless thousands of others send requests between two of its own.
 */
const MAX_COUNTERS = 10_000
/** One subscriber has a whole network of this size (RFC 6177), so single addresses would not limit anybody. */
const IPV6_NETWORK_BITS = 64

/**
 * Limits the requests of each address in this scope, and decorates the other limits. The hooks throw `RATE_LIMITED`.
 * Each process counts for itself, in windows of a minute.
 */
async function rateLimits (fastify: FastifyInstance): Promise<void> {
  const {
    RATE_LIMIT_ADDRESS_PER_MINUTE, RATE_LIMIT_TENANT_PER_MINUTE, RATE_LIMIT_META_PER_MINUTE, RATE_LIMIT_KEY_PER_MINUTE
  } = fastify.env
  fastify.addHook('onRoute', (route) => { addErrors(route, RateLimited) })
  if (RATE_LIMIT_ADDRESS_PER_MINUTE > 0) await limitAddresses(fastify, RATE_LIMIT_ADDRESS_PER_MINUTE)
  const tenantKey = ({ tenant }: FastifyRequest) => tenant.id
  const ofTenant = await createLimit(RATE_LIMIT_TENANT_PER_MINUTE, tenantKey)
  const ofMeta = await createLimit(RATE_LIMIT_META_PER_MINUTE, tenantKey)
  const ofKey = await createLimit(RATE_LIMIT_KEY_PER_MINUTE, ({ serviceKey }) => serviceKey.id)
  fastify.decorate('limitServiceKeys', (scope: FastifyInstance) => {
    if (RATE_LIMIT_KEY_PER_MINUTE === 0) return
    scope.addHook('onRequest', async function (request, reply) {
      if (hasServiceKey(request)) await ofKey.hook.call(this, request, reply)
    })
  })
  fastify.decorate('limitTenants', (scope: FastifyInstance) => {
    if (RATE_LIMIT_TENANT_PER_MINUTE > 0) scope.addHook('onRequest', ofTenant.hook)
    scope.addHook('onRoute', (route) => {
      if (route.config?.callsMeta === true && RATE_LIMIT_META_PER_MINUTE > 0) route.onRequest = ofMeta.hook
    })
  })
}

export default fp(rateLimits, { name: 'rate-limits', dependencies: ['env'] })

/** Limits the requests of each address before the guards, and its tokens that fail. */
async function limitAddresses (fastify: FastifyInstance, max: number): Promise<void> {
  const networkKey = ({ clientNetwork }: FastifyRequest) => clientNetwork
  const requests = await createLimit(max, networkKey)
  const failedTokens = await createLimit(FAILED_TOKENS_PER_MINUTE, networkKey)
  fastify.decorateRequest('clientNetwork', '')
  fastify.addHook('onRequest', (request, _reply, done) => {
    // As text: a client of a UNIX socket has no address. All of them count as one.
    request.clientNetwork = normalizeIP(String(request.ip), IPV6_NETWORK_BITS)
    done()
  })
  fastify.addHook('onRequest', requests.hook)
  // Good tokens of the address still work: behind one address may be many tenants.
  fastify.setErrorHandler<FastifyError>(async (error, request, reply) => {
    const isFailedToken = error instanceof Unauthenticated && request.headers.authorization !== undefined
    const failed = isFailedToken ? await failedTokens.count(request) : undefined
    if (failed === undefined || failed.isAllowed || !failed.isExceeded) return handleError(error, request, reply)
    reply.headers({
      'ratelimit-limit': failed.max,
      'ratelimit-remaining': 0,
      'ratelimit-reset': failed.ttlInSeconds,
      'retry-after': failed.ttlInSeconds
    })
    return handleError(new RateLimited(), request, reply)
  })
}

/** Whether the guard admitted a service key: that of admins admits tokens, too. */
const hasServiceKey = ({ serviceKey }: Partial<FastifyRequest>) => serviceKey !== undefined

/** Creates a limit of requests in a minute for each key: a hook that enforces it, and its counter. */
async function createLimit (max: number, keyGenerator: (request: FastifyRequest) => string) {
  // Its own server, which never listens. A host server may have registered the same library: its decorators would be
  // inherited, and with them the host's store and exceptions.
  const owner = Fastify()
  await owner.register(rateLimit, {
    global: false,
    max,
    keyGenerator,
    cache: MAX_COUNTERS,
    // `ratelimit-…` without `x-`: draft-ietf-httpapi-ratelimit-headers, up to its version 07.
    enableDraftSpec: true,
    errorResponseBuilder: () => new RateLimited()
  })
  return { hook: owner.rateLimit(), count: owner.createRateLimit() }
}
