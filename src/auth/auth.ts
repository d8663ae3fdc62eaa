import fastifyJwt, { type JWT } from '@fastify/jwt'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import {
  DatabaseUnavailable, Forbidden, IdentityUnavailable, RevealDisabled, ScopeMissing, TenantClaimInvalid,
  Unauthenticated, type ErrorClass
} from '../errors.js'
import { addLogFields, type LogFields } from '../logger.js'
import type { AuditRole } from '../schemas/audit-log/names.js'
import type { ServiceKeyScope } from '../schemas/services/service-keys.js'
import { isServiceKey, type ServiceKey, type ServiceKeys } from '../service-keys/service-keys.js'
import { isTenantId } from '../tenant-configs/tenant-id.js'
import type { Env } from '../settings/env.js'
import { createClaimReader, type Claims, type Identity, type TokenSubject } from './claims.js'
import { isProviderAlgorithm } from './key-set.js'
import { createProviderKeys, type ProviderKeys } from './provider-keys.js'
import { refuse, refuseAs, refuseScope } from './refusal.js'

declare module 'fastify' {
  interface FastifyInstance { auth: Auth }
  interface FastifyRequest {
    /** The tenant, the user and the scopes of the token; set by the guard of the tenant routes. */
    tenant: { id: string, userId: string | null, scopes: unknown[] }
    /** The owner of a valid token or key; null until a guard has verified that, also when it then refuses it. */
    actor: Actor | null
    /** The key that was sent; set by the guard of service keys, and by that of admins where it admits one. */
    serviceKey: ServiceKey
  }
  interface FastifyContextConfig {
    /** The scope of the service keys that the route is for; without it, it is for none. */
    serviceKeyScope?: ServiceKeyScope
  }
}

/** The sender of a request. */
export interface Actor {
  role: AuditRole
  /** The claim `sub`, or the id of the key. */
  id: string | null
  /** The tenant that the token names; null without a usable one. */
  tenantId: string | null
}

interface Auth {
  /** Admits only tokens of a tenant to the routes of this scope, and describes that in their OpenAPI. */
  guardTenant: (scope: FastifyInstance) => void
  /** Admits only admins to the routes of this scope, and describes that in their OpenAPI. */
  guardAdmin: (scope: FastifyInstance) => void
  /** Admits auditors and admins to the routes of this scope, and describes that in their OpenAPI. */
  guardAuditor: (scope: FastifyInstance) => void
  /** Admits only service keys to the routes of this scope, and describes that in their OpenAPI. */
  guardServiceKeys: (scope: FastifyInstance) => void
  /**
   * Checks that a request which the guard of tenants admitted may read secrets in clear.
   *
   * @throws SCOPE_MISSING, REVEAL_DISABLED
   */
  assertMayReveal: (request: FastifyRequest) => void
  /**
   * Signs a token for a tenant, an admin or both; `expiresIn` is in seconds.
   *
   * @throws without JWT_SECRET
   */
  mint: (subject: TokenSubject, expiresIn: number) => string
}

interface AuthDependencies {
  env: Env
  /** Signs and verifies HS256; undefined without JWT_SECRET. */
  jwt: JWT | undefined
  /** The keys of the identity provider; undefined without JWT_JWKS_URL. */
  keys: ProviderKeys | undefined
  serviceKeys: Pick<ServiceKeys, 'authenticate' | 'mayRead'>
}

/** Creates the guards, and `mint` for tokens that they admit. */
export function createAuth ({ env, jwt, keys, serviceKeys }: AuthDependencies): Auth {
  const claims = createClaimReader(env)

  async function identify (token: string): Promise<Identity> {
    const { alg, kid } = readHeader(token)
    if (jwt !== undefined && alg === 'HS256') return claims.read(verifyWith((text) => jwt.verify<Claims>(text), token))
    if (keys === undefined || !isProviderAlgorithm(alg)) throw refuse('algorithm')
    return claims.read(verifyWith(await keys.find(alg, kid), token))
  }

  async function identifyActor (request: FastifyRequest): Promise<Actor & Pick<Identity, 'scopes'>> {
    const { role, tenantId, userId, scopes } = await identify(readToken(request))
    request.actor = { role, id: userId ?? null, tenantId: isTenantId(tenantId) ? tenantId : null }
    return { ...request.actor, scopes }
  }

  /** Returns the service key of a request, if the route is for it; null for a request with another token. */
  async function identifyKey (request: FastifyRequest): Promise<ServiceKey | null> {
    const token = readToken(request)
    if (!isServiceKey(token)) return null
    const key = await serviceKeys.authenticate(token)
    if (key === null) throw refuse('serviceKey')
    if (key === 'expired') throw refuse('expiry')
    request.serviceKey = key
    request.actor = { role: 'service_key', id: key.id, tenantId: null }
    assertScope(request, key.scopes)
    return key
  }

  /** Admits the roles to the routes of a scope, and service keys to those that are for them. */
  const guardRoles = (...roles: AuditRole[]) => (scope: FastifyInstance) => {
    guard(scope, [Forbidden], async (request) => {
      const key = await identifyKey(request)
      if (key !== null) {
        // The parameter of a route for one tenant. Those for all tenants have none.
        if (!serviceKeys.mayRead(key, Object(request.params).id)) throw new Forbidden()
        return { key_id: key.id }
      }
      const { role, id } = await identifyActor(request)
      if (!roles.includes(role)) throw new Forbidden()
      return { sub: id }
    })
  }

  return {
    guardTenant: (scope) => guard(scope, [TenantClaimInvalid, Forbidden], async (request) => {
      const { role, tenantId, id: userId, scopes } = await identifyActor(request)
      if (role === 'auditor') throw new Forbidden()
      if (tenantId === null) throw new TenantClaimInvalid()
      request.actor = { role: 'tenant', id: userId, tenantId }
      request.tenant = { id: tenantId, userId, scopes }
      return { tenant_id: tenantId, sub: userId }
    }),
    guardAdmin: guardRoles('admin'),
    guardAuditor: guardRoles('admin', 'auditor'),
    guardServiceKeys: (scope) => guard(scope, [], async (request) => {
      const key = await identifyKey(request)
      if (key !== null) return { key_id: key.id }
      // The scopes of a JWT are those of the identity provider.
      await identifyActor(request)
      assertScope(request, [])
      return {}
    }, []),
    assertMayReveal: ({ tenant: { scopes } }) => {
      const { FULL_CONFIG_ACCESS: access, FULL_CONFIG_SCOPE: scope } = env
      if (access === 'off') throw new RevealDisabled()
      if (access === 'scope' && !scopes.includes(scope)) throw refuseScope(scope)
    },
    mint: (subject, expiresIn) => {
      if (jwt === undefined) {
        throw new Error('Without JWT_SECRET this service signs no token. Get one from the identity provider, or set ' +
          'JWT_SECRET too.')
      }
      return jwt.sign(claims.write(subject), { expiresIn })
    }
  }
}

/**
 * Decorates `fastify.auth`. Its guards run before validation, and throw `UNAUTHENTICATED`, `FORBIDDEN`,
 * `TENANT_CLAIM_INVALID` or `IDENTITY_UNAVAILABLE`.
 */
async function auth (fastify: FastifyInstance): Promise<void> {
  const { env, closing, outbound: { fetch }, serviceKeys, log } = fastify
  const { JWT_SECRET: secret, JWT_JWKS_URL: url, JWT_CLOCK_TOLERANCE_S: clockTolerance } = env
  const keys = url === undefined ? undefined : createProviderKeys({ url, clockTolerance, fetch, closing, log })
  fastify.decorateRequest('tenant')
  fastify.decorateRequest('actor', null)
  fastify.decorateRequest('serviceKey')
  // In a scope of its own: the host server may register @fastify/jwt too, before us or after us.
  await fastify.register(async (scope) => {
    if (secret !== undefined) {
      await scope.register(fastifyJwt, {
        // Not `user`: the scope may inherit that decorator from the host server.
        decoratorName: 'tenantClaims',
        secret,
        sign: { algorithm: 'HS256' },
        verify: { algorithms: ['HS256'], clockTolerance: clockTolerance * 1000 }
      })
    }
    fastify.decorate('auth', createAuth({ env, keys, serviceKeys, jwt: secret === undefined ? undefined : scope.jwt }))
  })
}

export default fp(auth, { name: 'auth', dependencies: ['env', 'closing', 'outbound'] })

/** Admits a request unless `check` throws. The log lines of the request then carry the claims that it returns. */
function guard (
  scope: FastifyInstance, errors: ErrorClass[], check: (request: FastifyRequest) => Promise<LogFields>,
  credentials: Array<Record<string, string[]>> = [{ bearer: [] }]
): void {
  scope.addHook('onRequest', async (request, reply) => {
    addLogFields(request, reply, await check(request))
  })
  scope.addHook('onRoute', (route) => {
    const { serviceKeyScope: keyScope, errors: own = [] } = route.config ?? {}
    const security = [...credentials, ...keyScope === undefined ? [] : [{ serviceKey: [keyScope] }]]
    route.schema = { ...route.schema, security }
    const ofKeys = keyScope === undefined ? [] : [ScopeMissing, DatabaseUnavailable]
    route.config = { ...route.config, errors: [Unauthenticated, IdentityUnavailable, ...errors, ...ofKeys, ...own] }
  })
}

/** @throws FORBIDDEN on a route that is not for service keys, SCOPE_MISSING */
function assertScope ({ routeOptions }: FastifyRequest, scopes: string[]): void {
  const { serviceKeyScope: scope } = routeOptions.config
  if (scope === undefined) throw new Forbidden()
  if (!scopes.includes(scope)) throw refuseScope(scope)
}

/** Reads the token from the `authorization` header (RFC 6750, section 2.1). */
function readToken ({ headers: { authorization = '' } }: FastifyRequest): string {
  const token = /^Bearer (\S+)$/i.exec(authorization)?.[1]
  if (token !== undefined) return token
  // The header of a client that sends no token has another scheme, or is absent.
  throw /^Bearer(\s|$)/i.test(authorization) ? refuse('form') : new Unauthenticated()
}

/**
 * Reads what selects the key. Nothing else in a header counts: a key or a URL in it is the sender's own. RFC 7515
 * section 4.1.11 and RFC 7797 section 6 demand to refuse `crit` and `b64`.
 */
function readHeader (token: string): { alg: unknown, kid: string | undefined } {
  const { alg, kid, crit, b64 }: Claims = decodeHeader(token)
  if (crit !== undefined || b64 !== undefined) throw refuse('extension')
  if (kid !== undefined && typeof kid !== 'string') throw refuse('form')
  return { alg, kid }
}

function decodeHeader (token: string): Claims {
  const [header = ''] = token.split('.', 1)
  try {
    return Object(JSON.parse(Buffer.from(header, 'base64url').toString()))
  } catch {
    throw refuse('form')
  }
}

function verifyWith (verify: (token: string) => Claims, token: string): Claims {
  try {
    return verify(token)
  } catch (err) {
    throw refuseAs(err)
  }
}
