import type { FastifyInstance } from 'fastify'

const LIFETIME_S = 600

/** What one call sent and what came back; no body counts as an empty one. */
export interface Exchange<T = Record<string, unknown>> { request: string, sent?: unknown, status: number, body: T }

/** Calls the API over HTTP. Takes the origin, and the bearer token unless there is none. */
export function createClient (origin: string, token?: string) {
  const caller = (method: string) => async <T = Record<string, unknown>>(path: string, sent?: object): Promise<Exchange<T>> => {
    const reply = await fetch(`${origin}/api/v1/tenant${path}`, {
      method,
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(sent === undefined ? {} : { 'content-type': 'application/json' })
      },
      ...(sent === undefined ? {} : { body: JSON.stringify(sent) })
    })
    const text = await reply.text()
    return { request: `${method} ${path}`, ...(sent === undefined ? {} : { sent }), status: reply.status, body: JSON.parse(text === '' ? '{}' : text) }
  }
  return { get: caller('GET'), post: caller('POST'), put: caller('PUT'), delete: caller('DELETE') }
}

/** Calls the API as a user of a tenant. */
export function createTenantClient ({ auth, listeningOrigin }: FastifyInstance, tenantId: string) {
  return createClient(listeningOrigin, auth.mint({ tenantId, userId: `user-of-${tenantId}` }, LIFETIME_S))
}

/** Calls the API as an admin. */
export function createAdminClient ({ auth, listeningOrigin }: FastifyInstance) {
  return createClient(listeningOrigin, auth.mint({ admin: true }, LIFETIME_S))
}
