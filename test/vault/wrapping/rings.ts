import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import type { KmsName } from '../../../src/settings/key-ring.js'
import { unwrapKeyRing, wrapKey } from '../../../src/vault/wrapping/wrapping.js'
import { scanner } from '../../secrets/canaries.js'

type WrapEnv = Parameters<typeof wrapKey>[2]

/** A new key, plain and wrapped. */
export async function wrappedKey (id: string, kms: KmsName, env: WrapEnv) {
  const key = randomBytes(32)
  return { entry: await wrapKey({ id, key }, kms, env, fetch), plain: `${id}:${key.toString('base64')}`, key }
}

/** Unwraps a ring, with one attempt for each key. */
export const unwrapOnce = async (keyRing: string, env: WrapEnv) =>
  await unwrapKeyRing({ ...env, ENCRYPTION_KEYS: keyRing }, { fetch })

/** The secrets that no message about an entry may contain: the ciphertext, the key, and those given. */
export function entryScanner (entry: string, key: Buffer, secrets: Record<string, string>) {
  const ciphertext = String(entry.split(':').at(-1))
  return scanner({
    // A message may quote a part of it.
    ciphertext: ciphertext.slice(60, 90), key: key.toString('base64'), keyBytes: key.toString('latin1'), ...secrets
  })
}

/** The message with which a call is rejected; asserts that it has no line of a stack and no cause. */
export async function messageOf (t: Test, call: Promise<unknown>): Promise<string> {
  const err: unknown = await call.then(() => new Error('nothing was refused'), (err: unknown) => err)
  if (!(err instanceof Error)) throw new Error('this is no error')
  t.equal(err.cause, undefined, 'the start would print the deepest cause')
  t.notMatch(err.message, / {4}at /)
  return err.message
}
