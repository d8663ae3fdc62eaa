import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { seed } from '../bench/stage/seed.js'
import type { Graph } from '../graph/server.js'
import { newKey, until } from '../helper.js'
import type { createRequests } from '../upgrade/requests.js'
import { startLoad } from './load.js'
import {
  addCopies, countTokensOf, countTornOnboardings, digestOf, digestRest, digestSecrets, placeOf
} from './stored.js'

/** A rotation is killed once it has sealed these shares of the tokens. */
const KILLED_AT = [0.2, 0.4, 0.6]
const KILL_TIMEOUT_MS = 600_000

interface TrialOptions {
  /** A database with our schema, whose tokens are not due. */
  url: string
  tenants: number
  meta: Graph
  requests: ReturnType<typeof createRequests>
  /** Starts a service with a key ring. */
  startService: (keyRing: string) => Promise<{ origin: string, stop: () => Promise<unknown> }>
  /** Starts `keys:rotate` with a key ring. */
  startRotation: (keyRing: string) => ChildProcess
  print: (line: string) => void
}

/** What a trial found; a fault is a value that is lost, unreadable or left, and an answer that was not as expected. */
export interface TrialResult {
  values: number
  /** From the last kill until both of the last rotations have ended. */
  seconds: number
  requests: number
  faults: string[]
  /** The ring after the rotation. */
  keyRing: string
}

/**
 * Rotates the keys of many tenants while two instances serve and tenants write, read and log in. Kills the rotation
 * three times; meanwhile one instance still seals with the former key. Then two rotations run at once to their end.
 */
export async function runTrial (
  { url, tenants, meta, requests, startService, startRotation, print }: TrialOptions
): Promise<TrialResult> {
  const [one, two] = [`k1:${newKey()}`, `k2:${newKey()}`]
  await seed(url, one, tenants)
  const values = await addCopies(url)
  const [secrets, rest] = [await digestSecrets(url, one), await digestRest(url)]
  const [former, present] = [await startService(`${one},${two}`), await startService(`${two},${one}`)]
  const origins = [former.origin, present.origin]
  const load = startLoad(origins, requests, meta)
  const faults: string[] = []

  for (const share of KILLED_AT) {
    const rotation = startRotation(`${two},${one}`)
    const ended = once(rotation, 'exit')
    await until(async () => await countTokensOf(url, 'k2') >= share * tenants, KILL_TIMEOUT_MS)
    rotation.kill('SIGKILL')
    const [, signal] = await ended
    if (signal !== 'SIGKILL') faults.push(`a rotation ended before it was killed at ${share}`)
    print(`killed a rotation when ${await countTokensOf(url, 'k2')} of ${tenants} tokens were sealed anew`)
  }

  origins.shift()
  await former.stop()
  const began = performance.now()
  const outputs = await Promise.all([1, 2].map(async () => await outputOf(startRotation(`${two},${one}`))))
  const seconds = (performance.now() - began) / 1000
  for (const output of outputs) {
    print(output.trim())
    if (!output.includes('\n0 values under k1\n0 values in v1\n')) faults.push(`a rotation was not complete: ${output}`)
  }
  const { requests: sent, faults: faulty } = await load.stop()
  await present.stop()

  const after = await digestSecrets(url, two)
  for (const [place, digest] of secrets) if (after.get(place) !== digest) faults.push(`${place} is lost`)
  for (const [tenant, written] of load.stored) {
    for (const [name, secret] of Object.entries(written)) {
      if (after.get(placeOf(tenant, name)) !== digestOf(secret)) faults.push(`${placeOf(tenant, name)} is lost`)
    }
  }
  if (JSON.stringify(rest) !== JSON.stringify(await digestRest(url))) faults.push('more than the secrets has changed')
  const torn = await countTornOnboardings(url)
  if (torn > 0) faults.push(`${torn} onboardings have another token than their configuration`)
  return { values, seconds, requests: sent, faults: [...faults, ...faulty], keyRing: two }
}

/** What a command prints on stdout, and its exit code if that is not 0. */
async function outputOf (child: ChildProcess): Promise<string> {
  const { stdout } = child
  if (stdout === null) throw new Error('the rotation has no stdout')
  const [printed, [code]] = await Promise.all([text(stdout), once(child, 'exit')])
  return code === 0 ? printed : `${printed}ended with ${String(code)}`
}
