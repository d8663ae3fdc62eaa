import { isIP } from 'node:net'
import type { FastifyContextConfig, FastifyReply, FastifyRequest } from 'fastify'
import type { NewEntry, Origin } from '../../audit/audit.js'
import type { Actor } from '../../auth/auth.js'
import type { AuditOutcome } from '../../schemas/audit-log/names.js'
import { isTenantId } from '../../tenant-configs/tenant-id.js'

/** As the service makes ids; a host server may take them from a header. */
const REQUEST_ID = /^[\w.:-]{1,128}$/
const MAX_ADDRESS_LENGTH = 45

/** Describes a request with its answer; null for one that is not recorded. */
export function entryOf (request: FastifyRequest, { statusCode }: FastifyReply): NewEntry | null {
  const { actor, body, query, errorCode: code = null, routeOptions: { config, schema } } = request
  // A record of each limited request would be the load that the limit keeps away.
  if (actor === null || statusCode === 429) return null
  const outcome = outcomeOf(statusCode, code)
  const action = config.audit === undefined ? 'api.access' : actionOf(config.audit, query)
  if (action === 'api.access' && outcome !== 'denied') return null
  return {
    tenant_id: subjectOf(request, actor, outcome),
    actor: actor.id,
    role: actor.role,
    action,
    outcome,
    code,
    fields: fieldsIn(body, schema?.body),
    ...originOf(request)
  }
}

/** Returns where a request came from, as it is recorded: what is no address or no usable id is null. */
export function originOf ({ ip, id }: FastifyRequest): Origin {
  return {
    address: isIP(ip) !== 0 && ip.length <= MAX_ADDRESS_LENGTH ? ip : null,
    request_id: REQUEST_ID.test(id) ? id : null
  }
}

const actionOf = ({ action, ifPurged = action }: NonNullable<FastifyContextConfig['audit']>, query: unknown) =>
  Object(query).purge === true ? ifPurged : action

/** The 403 of Meta are refusals of the tenant's credentials. */
function outcomeOf (status: number, code: string | null): AuditOutcome {
  if (status < 400) return 'ok'
  if (status >= 500) return 'failed'
  return status === 403 && code !== null && !code.startsWith('META_') ? 'denied' : 'refused'
}

/** The tenant whose record it is; empty for none. A refused id may be none of a tenant: a secret in the wrong place. */
function subjectOf (request: FastifyRequest, { role, tenantId }: Actor, outcome: AuditOutcome): string {
  if (role === 'tenant') return tenantId ?? ''
  const { params, body, routeOptions: { config: { audit } } } = request
  const id: unknown = outcome === 'ok' ? { ...Object(params), ...Object(body) }[String(audit?.tenantField)] : ''
  return isTenantId(id) ? id : ''
}

/** The names of the schema that a body has, and nothing else of it. */
const fieldsIn = (body: unknown, schema: unknown) =>
  Object.keys(Object(Object(schema).properties)).filter((name) => Object.hasOwn(Object(body), name))
