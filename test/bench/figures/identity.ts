import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { requestCost } from '../measure/request-cost.js'
import { interleaved } from '../measure/rounds.js'
import { compared, type Result } from '../report/result.js'
import type { Stage } from '../stage/stage.js'
import { originOf } from './http.js'

/** Requests in a round, and tokens of each kind. */
const READS = 3000

const path = '/api/v1/tenant/config'
const accepted = { JWT_ISSUER: 'https://idp.example', JWT_AUDIENCE: 'bench' }

/** GET `/config` with RS256 tokens of an identity provider whose key is cached; the floor is HS256. */
export async function identity ({ server, start, tenants, authorize }: Stage): Promise<Result[]> {
  const { publicKey, privateKey } = await generateKeyPair('RS256')
  const key = { ...await exportJWK(publicKey), kid: 'bench', alg: 'RS256', use: 'sig' }
  const provider = createServer((_request, reply) => { reply.end(JSON.stringify({ keys: [key] })) })
  provider.listen(0, '127.0.0.1')
  await once(provider, 'listening')
  const address = provider.address()
  const JWT_JWKS_URL = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}/jwks`

  const [floor, ours] = [Array<{ authorization: string }>(), Array<{ authorization: string }>()]
  for (const tenant_id of tenants.slice(0, READS)) {
    const claims = { tenant_id, iss: accepted.JWT_ISSUER, aud: accepted.JWT_AUDIENCE }
    floor.push(authorize(claims))
    const token = await new SignJWT(claims)
      .setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid: 'bench' })
      .setIssuedAt()
      .setExpirationTime('1 hour')
      .sign(privateKey)
    ours.push({ authorization: `Bearer ${token}` })
  }

  const child = await start('service-process', { ...accepted, JWT_JWKS_URL })
  const origin = await originOf(child)
  const get = (headers: Array<{ authorization: string }>) => async () => await requestCost(
    child,
    origin,
    server,
    Array.from({ length: READS }, () => ({ method: 'GET', path, headers: headers[randomInt(READS)] }))
  )
  const costs = await interleaved({ floor: get(floor), ours: get(ours) })
  await child.end()
  provider.close()
  return [compared('GET `/config` with an RS256 token, cached key; the floor is HS256', costs, 1.25)]
}
