import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { LRUCache } from 'lru-cache'
import type { NewEntry } from '../../audit/audit.js'
import { AuditUnavailable } from '../../errors.js'
import type { AuditAction } from '../../schemas/audit-log/names.js'
import { addErrors } from '../route-errors.js'
import { entryOf } from './entry.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * Records the requests of the route, with `purge=true` as `ifPurged`. `tenantField` names the parameter, or the
     * field of the body, with the tenant on which an admin acts.
     */
    audit?: { action: AuditAction, ifPurged?: AuditAction, tenantField?: string }
  }
  interface FastifyRequest {
    /** Whether the request is recorded, or that was tried. */
    isAudited: boolean
  }
}

/** A denied request that is repeated within this time is recorded once: nobody can fill the log with refusals. */
const DENIED_AGAIN_MS = 60_000
const MAX_DENIED = 10_000

/**
 * Records the requests of the audited routes of this scope, and those that a guard denies on any of its routes, before
 * any byte of the answer leaves. An answer below 400 waits until its record is stored, and turns into
 * `AUDIT_UNAVAILABLE` when that fails. A refusal reveals and changes nothing, and does not wait.
 */
async function auditRequests (fastify: FastifyInstance): Promise<void> {
  const denied = new LRUCache<string, true>({ max: MAX_DENIED, ttl: DENIED_AGAIN_MS })
  fastify.decorateRequest('isAudited', false)
  fastify.addHook('onRoute', (route) => {
    if (route.config?.audit !== undefined) addErrors(route, AuditUnavailable)
  })

  fastify.addHook('onSend', (request, reply, payload, done) => {
    const entry = request.isAudited ? null : entryOf(request, reply)
    if (entry === null || (entry.outcome === 'denied' && isRepeated(entry))) return done(null, payload)
    // The error of a failed record is sent by this hook, too.
    request.isAudited = true
    const recorded = fastify.audit.record(entry)
    if (entry.outcome === 'ok') {
      recorded.then(() => done(null, payload), done)
    } else {
      // `record` has logged the error.
      recorded.catch(() => {})
      done(null, payload)
    }
  })

  function isRepeated ({ tenant_id: tenantId, role, actor, action }: NewEntry): boolean {
    const key = JSON.stringify([tenantId, role, actor, action])
    if (denied.has(key)) return true
    denied.set(key, true)
    return false
  }
}

export default fp(auditRequests, { name: 'audit-requests' })
