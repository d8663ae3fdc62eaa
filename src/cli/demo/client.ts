import type { FastifyInstance } from 'fastify'

const LIFETIME_S = 600

/** One call: its request and its answer. An answer without a body has an empty object for it. */
export interface Exchange<T = Record<string, unknown>> {
  request: string
  sent?: unknown
  status: number
  body: T
}

/** Creates a client that calls the API over HTTP with a bearer token, or without one. */
export function createClient (origin: string, token?: string) {
  type Call = <T = Record<string, unknown>>(path: string, sent?: object) => Promise<Exchange<T>>
  const createCall = (method: string): Call => async (path, sent) => {
    const reply = await fetch(`${origin}/api/v1/tenant${path}`, {
      method,
      headers: {
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(sent === undefined ? {} : { 'content-type': 'application/json' })
      },
      ...(sent === undefined ? {} : { body: JSON.stringify(sent) })
    })
    const text = await reply.text()
    return {
      request: `${method} ${path}`,
      ...(sent === undefined ? {} : { sent }),
      status: reply.status,
      body: JSON.parse(text === '' ? '{}' : text)
    }
  }
  return { get: createCall('GET'), post: createCall('POST'), put: createCall('PUT'), delete: createCall('DELETE') }
}

/** Creates a client with a token of a tenant's user. */
export function createTenantClient ({ auth, listeningOrigin }: FastifyInstance, tenantId: string) {
  return createClient(listeningOrigin, auth.mint({ tenantId, userId: `user-of-${tenantId}` }, LIFETIME_S))
}

/** Creates a client with a token of an admin. */
export function createAdminClient ({ auth, listeningOrigin }: FastifyInstance) {
  return createClient(listeningOrigin, auth.mint({ admin: true }, LIFETIME_S))
}
