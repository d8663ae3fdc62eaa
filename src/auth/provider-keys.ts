import type { FastifyBaseLogger } from 'fastify'
import { IdentityUnavailable } from '../errors.js'
import type { Fetch } from '../outbound/outbound.js'
import { createSharedWork } from '../waiting/shared-work.js'
import { fetchKeySet, importKeys, keyName, type Verifiers, type Verify } from './key-set.js'
import { refuse } from './refusal.js'

const MAX_AGE_MS = 10 * 60_000
/** After a fetch that failed or did not find the key: the earliest next one. */
const COOL_DOWN_MS = 30_000

interface ProviderOptions {
  /** The URL of the JSON Web Key Set. */
  url: string
  /** In seconds, for `exp` and `nbf`. */
  clockTolerance: number
  fetch: Fetch
  closing: AbortSignal
  log: Pick<FastifyBaseLogger, 'warn'>
  /** Milliseconds of a clock that never jumps. */
  now?: () => number
}

/** The keys of an identity provider. */
export interface ProviderKeys {
  /**
   * Returns the function that verifies tokens with this algorithm and `kid`. Only a token with a known key is served
   * while the provider cannot be reached.
   *
   * @throws UNAUTHENTICATED when no key fits, IDENTITY_UNAVAILABLE when the keys cannot be read
   */
  find: (alg: string, kid: string | undefined) => Promise<Verify>
}

/** Creates the cache of an identity provider's keys. It fetches them at the first token. */
export function createProviderKeys (options: ProviderOptions): ProviderKeys {
  const { url, clockTolerance, fetch, closing, log, now = () => performance.now() } = options
  const share = createSharedWork<void>()
  let verifiers: Verifiers = new Map()
  let isAway = false
  let expiresAt = -Infinity
  let nextFetchAt = -Infinity

  async function load (signal: AbortSignal): Promise<void> {
    try {
      verifiers = await importKeys(await fetchKeySet(url, fetch, signal), clockTolerance)
      expiresAt = now() + MAX_AGE_MS
      isAway = false
    } catch (err) {
      isAway = true
      coolDown()
      log.warn({ err }, 'the keys of the identity provider at JWT_JWKS_URL cannot be read')
    }
  }

  function coolDown (): void {
    nextFetchAt = now() + COOL_DOWN_MS
  }

  return {
    async find (alg, kid) {
      const name = keyName(alg, kid)
      const isKnown = verifiers.has(name)
      if ((!isKnown || now() >= expiresAt) && now() >= nextFetchAt) {
        const loading = share('keys', load, [closing])
        // The provider may take 5 s to fail again: tokens of known keys do not wait for that.
        if (isKnown && isAway) loading.catch(() => {})
        else await loading
        if (!verifiers.has(name)) coolDown()
      }
      const verify = verifiers.get(name)
      if (verify !== undefined) return verify
      if (isAway || verifiers.size === 0) throw new IdentityUnavailable()
      throw refuse('key')
    }
  }
}
