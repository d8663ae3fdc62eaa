import fastifyJwt, { type JWT } from '@fastify/jwt'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Forbidden, TenantClaimInvalid, Unauthenticated, type ErrorClass } from '../errors.js'
import { replaceUnprintable } from '../logger.js'
import { CHARACTER } from '../schemas/fields.js'
import { isTenantId } from '../tenant-configs/tenant-id.js'
import type { Env } from '../settings/env.js'

declare module 'fastify' {
  interface FastifyInstance { auth: Auth }
  interface FastifyRequest {
    /** The tenant and the user of the token; set by the guard of the tenant routes. */
    tenant: { id: string, userId: string | null }
  }
}

interface Auth {
  /** Admits only tokens of a tenant to the routes of this scope, and describes that in their OpenAPI. */
  guardTenant: (scope: FastifyInstance) => void
  /** Admits only admins to the routes of this scope, and describes that in their OpenAPI. */
  guardAdmin: (scope: FastifyInstance) => void
  /** Signs a token for a tenant, an admin or both; `expiresIn` is in seconds. */
  mint: (subject: TokenSubject, expiresIn: number) => string
}

interface TokenSubject {
  tenantId?: string | undefined
  admin?: boolean | undefined
  userId?: string | undefined
}

type Claims = Record<string, unknown>

const TIME_CLAIMS = ['exp', 'nbf', 'iat']

const SUBJECT = new RegExp(`^${CHARACTER}{1,255}$`, 'u')

/** Creates the guards, and `mint` for tokens that they admit. */
export function createAuth ({ jwt, env }: { jwt: JWT, env: Env }): Auth {
  function verifyClaims (request: FastifyRequest): Claims {
    let claims: Claims
    try {
      claims = jwt.verify<Claims>(jwt.lookupToken(request))
    } catch {
      throw new Unauthenticated()
    }
    const isUsable = isUsableSubject(claims['sub']) && TIME_CLAIMS.every((name) => isUsableTime(claims[name]))
    if (!isUsable) throw new Unauthenticated()
    return claims
  }

  return {
    guardTenant: (scope) => guard(scope, [Unauthenticated, TenantClaimInvalid], (request) => {
      const { sub, [env.JWT_TENANT_CLAIM]: id } = verifyClaims(request)
      if (!isTenantId(id)) throw new TenantClaimInvalid()
      request.tenant = { id, userId: typeof sub === 'string' ? sub : null }
      return { tenant_id: id, sub }
    }),
    guardAdmin: (scope) => guard(scope, [Unauthenticated, Forbidden], (request) => {
      const claims = verifyClaims(request)
      if (!isAdmin(claims, env)) throw new Forbidden()
      return { sub: claims['sub'] }
    }),
    mint: ({ tenantId, admin, userId }, expiresIn) => jwt.sign({
      ...(userId === undefined ? {} : { sub: userId }),
      ...(tenantId === undefined ? {} : { [env.JWT_TENANT_CLAIM]: tenantId }),
      ...(admin === true ? { [env.JWT_ROLE_CLAIM]: env.JWT_ADMIN_ROLE } : {}),
      ...(env.JWT_ISSUER === undefined ? {} : { iss: env.JWT_ISSUER }),
      ...(env.JWT_AUDIENCE === undefined ? {} : { aud: env.JWT_AUDIENCE })
    }, { expiresIn })
  }
}

/**
 * Decorates `fastify.auth`. Its guards run before validation, and throw `UNAUTHENTICATED`, `FORBIDDEN` or
 * `TENANT_CLAIM_INVALID`.
 */
async function auth (fastify: FastifyInstance): Promise<void> {
  const { env, env: { JWT_ISSUER, JWT_AUDIENCE } } = fastify
  fastify.decorateRequest('tenant')
  // In a scope of its own: the host server may register @fastify/jwt too, before us or after us.
  await fastify.register(async (scope) => {
    await scope.register(fastifyJwt, {
      // Not `user`: the scope may inherit that decorator from the host server.
      decoratorName: 'tenantClaims',
      secret: env.JWT_SECRET,
      sign: { algorithm: 'HS256' },
      verify: {
        algorithms: ['HS256'],
        // `allowedIss` and `allowedAud` alone accept a token without the claim.
        requiredClaims: [
          'exp',
          ...(JWT_ISSUER === undefined ? [] : ['iss']),
          ...(JWT_AUDIENCE === undefined ? [] : ['aud'])
        ],
        ...(JWT_ISSUER === undefined ? {} : { allowedIss: JWT_ISSUER }),
        ...(JWT_AUDIENCE === undefined ? {} : { allowedAud: JWT_AUDIENCE })
      }
    })
    fastify.decorate('auth', createAuth({ jwt: scope.jwt, env }))
  })
}

export default fp(auth, { name: 'auth', dependencies: ['env'] })

/** Admits a request unless `check` throws. The log lines of the request then carry the claims that it returns. */
function guard (scope: FastifyInstance, errors: ErrorClass[], check: (request: FastifyRequest) => Claims): void {
  scope.addHook('onRequest', (request, reply, done) => {
    const claims = Object.entries(check(request))
      .flatMap(([name, value]) => typeof value === 'string' ? [[name, replaceUnprintable(value)]] : [])
    // The request and the reply have a logger each: Fastify's last line of a request is the reply's.
    reply.log = request.log = request.log.child(Object.fromEntries(claims))
    done()
  })
  scope.addHook('onRoute', (route) => {
    route.schema = { ...route.schema, security: [{ bearer: [] }] }
    route.config = { ...route.config, errors: [...errors, ...route.config?.errors ?? []] }
  })
}

/** Tells whether a `sub` is absent, or a string of 1 to 255 code points without control characters. */
export function isUsableSubject (sub: unknown): boolean {
  return sub === undefined || (typeof sub === 'string' && SUBJECT.test(sub))
}

/** Tells whether a time claim is absent or a time. fast-jwt ignores one that is no number, and accepts 1e308. */
function isUsableTime (time: unknown): boolean {
  return time === undefined || (typeof time === 'number' && time >= 0 && time < 2 ** 53)
}

function isAdmin (claims: Claims, env: Env): boolean {
  const roles = [claims[env.JWT_ROLE_CLAIM], env.JWT_ROLE_CLAIM === 'role' ? claims['roles'] : undefined].flat()
  return roles.includes(env.JWT_ADMIN_ROLE)
}
