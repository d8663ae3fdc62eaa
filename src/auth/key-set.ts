import { createVerifier } from 'fast-jwt'
import type { JSONWebKeySet } from 'jose'
import { createLocalJWKSet } from 'jose/jwks/local'
import { exportSPKI } from 'jose/key/export'
import { readBody } from '../outbound/body.js'
import type { Fetch } from '../outbound/outbound.js'
import { withTimeoutSignal } from '../waiting/timeout-signal.js'
import type { Claims } from './claims.js'

/** The algorithms of tokens that an identity provider signs. */
const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA'] as const

const TIMEOUT_MS = 5000
const MAX_BYTES = 1024 * 1024
const MAX_KEYS = 100
/** RFC 7518, sections 3.3 and 3.5. */
const MIN_RSA_BITS = 2048

/** Checks signature and times of a token, and returns its claims. Throws the errors of fast-jwt. */
export type Verify = (token: string) => Claims

/** The functions that verify tokens, by `keyName` of the token's header. */
export type Verifiers = Map<string, Verify>

/** Whether an identity provider may sign with an algorithm. */
export function isProviderAlgorithm (alg: unknown): alg is string {
  return ALGORITHMS.some((name) => name === alg)
}

/** The name of the key that a header asks for: one algorithm and one `kid`, or the only key of the algorithm. */
export function keyName (alg: string, kid: string | undefined): string {
  return kid === undefined ? alg : `${alg} ${kid}`
}

/**
 * Fetches the JSON of a key set. No redirect is followed.
 *
 * @throws when it does not come whole within 5 s, has more than 1 MiB or is no JSON
 */
export async function fetchKeySet (
  url: string, fetch: Fetch, signal: AbortSignal
): Promise<JSONWebKeySet> {
  return await withTimeoutSignal(signal, TIMEOUT_MS, async (signal) => {
    const headers = { accept: 'application/jwk-set+json, application/json' }
    const reply = await fetch(url, { headers, redirect: 'error', signal })
    const body = await readBody(reply, MAX_BYTES, signal)
    if (body === undefined) throw new Error(`the answer is larger than ${MAX_BYTES} bytes`)
    if (reply.status !== 200) throw new Error(`the answer has status ${reply.status}`)
    return JSON.parse(body.toString())
  })
}

/**
 * Imports the keys of a set. jose selects the key for an algorithm and a `kid` by the key's own `kty`, `crv`, `use`,
 * `key_ops` and `alg`; without a `kid`, only if it alone fits. Each function verifies one algorithm with one key. Keys
 * that are private, symmetric, too short or malformed are left out.
 *
 * @param clockTolerance in seconds, for `exp` and `nbf`
 * @throws when the set is malformed or has more than 100 keys
 */
export async function importKeys (set: JSONWebKeySet, clockTolerance: number): Promise<Verifiers> {
  const select = createLocalJWKSet(set)
  if (set.keys.length > MAX_KEYS) throw new Error(`the key set has more than ${MAX_KEYS} keys`)
  const verifiers: Verifiers = new Map()
  for (const kid of new Set([undefined, ...set.keys.map((key) => key.kid)])) {
    for (const alg of ALGORITHMS) {
      const key = await select(kid === undefined ? { alg } : { alg, kid }).catch(() => undefined)
      if (key === undefined || isShort(key.algorithm)) continue
      const pem = await exportSPKI(key)
      verifiers.set(keyName(alg, kid), createVerifier({
        key: pem, algorithms: [alg], clockTolerance: clockTolerance * 1000
      }))
    }
  }
  return verifiers
}

function isShort (algorithm: object): boolean {
  return 'modulusLength' in algorithm && Number(algorithm.modulusLength) < MIN_RSA_BITS
}
