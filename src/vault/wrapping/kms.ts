import type { RingKey, WrappedKey } from '../../settings/key-ring.js'

/** Encrypts keys with a key that never leaves it. Its functions throw KmsFault, also once the signal is aborted. */
export interface Kms {
  /** Encrypts a key for its id, and returns the ciphertext. */
  wrap: (key: RingKey, signal: AbortSignal) => Promise<string>
  /** Decrypts a key that was wrapped for the same id. */
  unwrap: (key: WrappedKey, signal: AbortSignal) => Promise<Buffer>
}

/** Why a KMS does not wrap or unwrap a key, and what to do: for a person, without a key or the words of the KMS. */
export class KmsFault extends Error {
  /** Whether the cause may pass by itself. */
  readonly mayPass: boolean

  constructor (message: string, { mayPass = false } = {}) {
    super(message)
    this.mayPass = mayPass
  }
}

/**
 * The context that a ciphertext is bound to: it opens for this use of this key id alone. It is no secret: a KMS logs
 * it. The order of its names is part of what Transit authenticates.
 */
export const encryptionContext = (keyId: string) =>
  ({ key_id: keyId, purpose: 'key-ring', service: 'whatsapp-tenant-config' })

/** Returns why a call has no answer, such as ECONNREFUSED; undefined for an error of another kind. */
export function whyNoAnswer (err: unknown): string | undefined {
  const { name, code, cause }: NodeJS.ErrnoException = Object(err)
  // The error of fetch itself is only "fetch failed".
  if (cause !== undefined) return whyNoAnswer(cause)
  if (typeof code === 'string') return code
  return name === 'TimeoutError' ? 'no answer in time' : undefined
}
