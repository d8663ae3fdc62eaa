import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import { exportJWK, generateKeyPair, SignJWT, type CryptoKey, type JWK, type JWTPayload } from 'jose'
import type { Test } from 'tap'

export type Answer = (request: IncomingMessage, reply: ServerResponse) => void

/** A key of an identity provider: `jwk` is the public one. */
export interface SigningKey {
  alg: string
  jwk: JWK
  privateKey: CryptoKey
  /** Signs claims; `header` replaces or adds members. A token without `exp` ends in 10 minutes. */
  sign: (claims: JWTPayload, header?: Record<string, unknown>) => Promise<string>
}

/** Makes a key; `jwk` replaces or adds members of the public one. */
export async function signingKey (alg: string, jwk: Partial<JWK> = {}, options: object = {}): Promise<SigningKey> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true, ...options })
  const key = { ...await exportJWK(publicKey), kid: `kid-${alg}`, alg, use: 'sig', ...jwk }
  return {
    alg,
    jwk: key,
    privateKey,
    sign: async (claims, header = {}) => {
      const { kid } = key
      const token = new SignJWT({ exp: Math.floor(Date.now() / 1000) + 600, ...claims })
      return await token
        .setProtectedHeader({ alg, typ: 'JWT', ...(kid === undefined ? {} : { kid }), ...header })
        .sign(privateKey)
    }
  }
}

/** Answers with these keys. */
export const keySet = (...keys: Array<SigningKey | object>): Answer => (_request, reply) => {
  const members = keys.map((key) => 'jwk' in key ? key.jwk : key)
  reply.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: members }))
}

/** The HTTP server of an identity provider; closed when the test ends. */
export async function identityProvider (t: Test, answer: Answer) {
  let [current, fetches] = [answer, 0]
  const server = createServer((request, reply) => {
    fetches++
    current(request, reply)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : 0
  return {
    url: `http://127.0.0.1:${port}/jwks`,
    /** The number of requests so far. */
    fetches: () => fetches,
    /** Answers differently from now on. */
    answerWith: (next: Answer) => { current = next },
    /** Stops listening; returns the function that listens again. */
    goAway: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
      return async () => {
        server.listen(port, '127.0.0.1')
        await once(server, 'listening')
      }
    }
  }
}

/** Breaks the connection. */
export const breakOff: Answer = (request) => { request.socket.destroy() }

export const status = (code: number): Answer => (_request, reply) => { reply.writeHead(code).end() }
