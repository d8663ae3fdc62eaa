import { setTimeout as delay } from 'node:timers/promises'
import { describeForTerminal } from '../../logger.js'
import type { Fetch } from '../../outbound/outbound.js'
import type { Env } from '../../settings/env.js'
import {
  formatEntry, isCiphertext, parseRingEntries, type KmsName, type RingKey, type WrappedKey
} from '../../settings/key-ring.js'
import { withTimeoutSignal } from '../../waiting/timeout-signal.js'
import { createAwsKms } from './aws-kms.js'
import { KmsFault, type Kms } from './kms.js'
import { createTransit } from './transit.js'

const KEY_BYTES = 32
const ATTEMPT_MS = 3000
/** With the last attempt it stays below Fastify's `pluginTimeout`, 10 seconds by default. */
const RETRY_MS = 6000
const FIRST_PAUSE_MS = 100
const MAX_PAUSE_MS = 1000

type KmsEnv = Parameters<typeof createAwsKms>[0] & Parameters<typeof createTransit>[0]

const create: Record<KmsName, (env: KmsEnv, fetch: Fetch) => Kms> = { 'aws-kms': createAwsKms, transit: createTransit }

interface UnwrapOptions {
  fetch: Fetch
  /** Gets a line when a fault that may pass is waited for; without it each key has one attempt. */
  report?: (line: string) => void
}

/**
 * Unwraps the keys of `ENCRYPTION_KEYS`, side by side. Takes at most 9 seconds.
 *
 * @returns the ring with plain entries alone
 * @throws an error for a person that names each key that cannot be unwrapped, why, and what to do; it holds no key
 */
export async function unwrapKeyRing (
  env: KmsEnv & Pick<Env, 'ENCRYPTION_KEYS'>, { fetch, report }: UnwrapOptions
): Promise<string> {
  const results = await Promise.allSettled(parseRingEntries(env.ENCRYPTION_KEYS).map(async (entry) =>
    formatEntry('key' in entry ? entry : await unwrap(entry, env, fetch, report))))
  const ring: string[] = []
  const faults: string[] = []
  for (const result of results) {
    if (result.status === 'fulfilled') ring.push(result.value)
    else faults.push(describeForTerminal(result.reason))
  }
  if (faults.length > 0) throw new Error(['Some keys of ENCRYPTION_KEYS cannot be unwrapped:', ...faults].join('\n  '))
  return ring.join()
}

/**
 * Wraps a key, and returns its entry for `ENCRYPTION_KEYS`. Takes at most 3 seconds.
 *
 * @throws KmsFault
 */
export async function wrapKey (key: RingKey, kms: KmsName, env: KmsEnv, fetch: Fetch): Promise<string> {
  const ciphertext = await withAttempt(async (signal) => await create[kms](env, fetch).wrap(key, signal))
  if (!isCiphertext(kms, ciphertext)) throw new KmsFault(`${kms} answers something that is no ciphertext.`)
  return formatEntry({ id: key.id, kms, ciphertext })
}

async function unwrap (
  wrapped: WrappedKey, env: KmsEnv, fetch: Fetch, report: UnwrapOptions['report']
): Promise<RingKey> {
  const { id, kms } = wrapped
  const deadline = performance.now() + RETRY_MS
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
    try {
      const key = await withAttempt(async (signal) => await create[kms](env, fetch).unwrap(wrapped, signal))
      if (key.length === KEY_BYTES) return { id, key }
      throw new KmsFault('The entry holds no key of 32 bytes. Make one with keys:new.')
    } catch (err) {
      const line = `${id} (${kms}): ${describeForTerminal(err)}`
      const canWait = err instanceof KmsFault && err.mayPass && performance.now() + pauseMs < deadline
      if (!canWait || report === undefined) throw new Error(line)
      if (pauseMs === FIRST_PAUSE_MS) report(`waiting for the key ${line}`)
      await delay(pauseMs)
    }
  }
}

async function withAttempt<T> (work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  return await withTimeoutSignal(new AbortController().signal, ATTEMPT_MS, work)
}
