import type { Test } from 'tap'
import type { EnvSource } from '../../src/app.js'
import { client, resolve, serviceKeys, type Who } from '../routes/client.js'

/** The header of a bearer token. */
export const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

/** The service, and what creates service keys and reads with them. */
export async function keysClient (t: Test, env?: EnvSource) {
  const service = await client(t, env)
  const { call, admin } = service

  /** Creates a key. */
  async function createKey (more: object = {}): Promise<{ id: string, key: string, header: Who }> {
    const { is, body } = await call(admin, 'POST', serviceKeys, { name: 'test', scopes: ['credentials:read'], ...more })
    t.equal(is, '201')
    const [id, key] = [String(body['id']), String(body['key'])]
    return { id, key, header: bearer(key) }
  }

  /** Reads GET /resolve with a query. */
  async function read (who: Who, query: string, headers: Who = {}) {
    return await call(who, 'GET', `${resolve}?${query}`, undefined, headers)
  }

  return { ...service, createKey, read }
}
