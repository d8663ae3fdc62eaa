import corsPlugin from '@fastify/cors'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

/** Chromium remembers no preflight longer (seconds); others may. */
const PREFLIGHT_MAX_AGE_S = 7200

/**
 * Lets pages of the `CORS_ORIGINS` read the answers of this scope, errors included, and answers their preflights
 * (Fetch Standard, "CORS protocol"). No cookie is involved: a page sends its token itself. Without the setting it does
 * nothing.
 */
async function cors (fastify: FastifyInstance): Promise<void> {
  const { CORS_ORIGINS } = fastify.env
  if (CORS_ORIGINS === undefined) return
  const allowed = new Set(CORS_ORIGINS.split(',').map((origin) => origin.trim()))
  // The library adds OPTIONS for `*`: with the prefix that would match `/api/v1/tenants` of a host server too.
  fastify.addHook('onRoute', (route) => {
    if (route.routePath !== '*') return
    route.url = `${route.prefix}/*`
    // Keeps it out of the OpenAPI document.
    route.config = { ...route.config, swaggerTransform: false }
  })
  await fastify.register(corsPlugin, {
    // As a function: given a list, the library sends other origins some of the headers.
    origin: (origin, done) => { done(null, origin !== undefined && allowed.has(origin)) },
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'DELETE'],
    // `traceparent` and `tracestate`: a page with tracing adds them to each request.
    allowedHeaders: [
      'authorization', 'content-type', 'idempotency-key', 'if-match', 'if-none-match', 'traceparent', 'tracestate'
    ],
    exposedHeaders: [
      'etag', 'idempotent-replayed', 'location', 'retry-after', 'www-authenticate',
      'ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset'
    ],
    maxAge: PREFLIGHT_MAX_AGE_S,
    // Otherwise OPTIONS without `access-control-request-method` gets a 400 that is no problem document.
    strictPreflight: false
  })
}

export default fp(cors, { name: 'cors', dependencies: ['env'] })
