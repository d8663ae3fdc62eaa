import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type, type Static } from '@sinclair/typebox'
import type { FastifyRequest } from 'fastify'
import {
  AuditUnavailable, ConfigNotFound, DatabaseUnavailable, SecretUnreadable, TenantInactive, TokenDead
} from '../errors.js'
import { originOf } from '../http/audit-log/entry.js'
import { isKnown } from '../http/conditional/entity-tags.js'
import { createSnapshotAnswers } from '../http/conditional/snapshot-answers.js'
import { IfNoneMatch } from '../schemas/config.js'
import { resolvedEtag as etag, ResolveQuery } from '../schemas/services/resolve.js'

type Query = Static<typeof ResolveQuery>

/** The values of the loader for code in other languages, behind the guard of service keys. */
const resolve: FastifyPluginAsyncTypebox = async (fastify) => {
  const { auth, configLoader, serviceKeys, env } = fastify
  const answers = createSnapshotAnswers(env.ENCRYPTION_KEYS)
  auth.guardServiceKeys(fastify)
  fastify.limitServiceKeys(fastify)

  fastify.get('/resolve', {
    config: {
      serviceKeyScope: 'credentials:read',
      errors: [ConfigNotFound, TenantInactive, TokenDead, SecretUnreadable, DatabaseUnavailable, AuditUnavailable]
    },
    schema: {
      operationId: 'resolveConfig',
      summary: 'Read what internal code is served, secrets in clear',
      description: 'What the loader serves, from its cache: it is fresh, or marked as stale while the database is ' +
        'away. Send exactly one parameter. An account may have several tenants. A tenant that the key may not read ' +
        'is as one that does not exist.',
      tags: ['resolve'],
      querystring: ResolveQuery,
      headers: IfNoneMatch,
      response: {
        200: Type.Ref('Resolved', { headers: { etag } }),
        304: Type.Null({ description: '`if-none-match` names the answer', headers: { etag } })
      }
    }
  }, async (request, reply) => {
    const { json, etag } = request.query.waba_id === undefined
      ? await answerOne(request.query, request)
      : await answerAll(request.query.waba_id, request)
    reply.headers({ etag, 'cache-control': 'no-store', 'content-type': 'application/json; charset=utf-8' })
    // The JSON is serialised already.
    if (!isKnown(request.headers, etag)) return json
    reply.removeHeader('content-type').code(304)
  })

  async function answerOne (query: Query, request: FastifyRequest) {
    const snapshot = await findOne(query, request)
    if (snapshot === null) throw new ConfigNotFound()
    const answer = answers.ofSnapshot(snapshot)
    await noteRead(request, snapshot.getTenantId())
    return answer
  }

  async function answerAll (wabaId: string, request: FastifyRequest) {
    const found = await configLoader.forWaba(wabaId).catch(hideUnreadable(request, []))
    const snapshots = readable(found.filter((snapshot) => mayRead(request, snapshot.getTenantId())))
    const answer = answers.ofSnapshots(snapshots)
    await Promise.all(snapshots.map((snapshot) => noteRead(request, snapshot.getTenantId())))
    return answer
  }

  async function findOne (query: Query, request: FastifyRequest) {
    const { tenant_id: tenantId, phone_number_id: phoneNumberId = '' } = query
    if (tenantId !== undefined) return mayRead(request, tenantId) ? await configLoader.forTenant(tenantId) : null
    const snapshot = await configLoader.forPhoneNumber(phoneNumberId).catch(hideUnreadable(request, null))
    return snapshot !== null && mayRead(request, snapshot.getTenantId()) ? snapshot : null
  }

  /** Those whose secrets all open. Throws `SECRET_UNREADABLE` only when none is left, as the loader does. */
  function readable (snapshots: Parameters<typeof answers.ofSnapshots>[0]) {
    const failures: unknown[] = []
    const left = snapshots.filter((snapshot) => {
      try {
        return answers.ofSnapshot(snapshot)
      } catch (err) {
        failures.push(err)
        return false
      }
    })
    if (left.length === 0 && failures.length > 0) throw failures[0]
    return left
  }

  function mayRead ({ serviceKey }: FastifyRequest, tenantId: string | null): boolean {
    return serviceKeys.mayRead(serviceKey, tenantId)
  }

  /** Records the read before the answer leaves. */
  function noteRead (request: FastifyRequest, tenantId: string | null): Promise<void> | undefined {
    return serviceKeys.addRead({
      keyId: request.serviceKey.id, tenantId: tenantId ?? '', originOf: () => originOf(request)
    })
  }
}

export default resolve

/**
 * Hides that the secrets of an id do not open from a key for certain tenants: they may be another tenant's, of which it
 * must not learn.
 */
function hideUnreadable<T> ({ serviceKey: { tenants } }: FastifyRequest, nothing: T): (err: unknown) => T {
  return (err) => {
    if (tenants !== null && err instanceof SecretUnreadable) return nothing
    throw err
  }
}
