import type { SealFormat } from '../schemas/statuses.js'

/** The parts of a sealed text. */
export interface SealedParts {
  format: SealFormat
  keyId: string
  /** The base64url of the last characters of the secret; empty for a short secret, and in `v1`. */
  hint: string
  /** The base64url of iv ‖ ciphertext ‖ tag. */
  payload: string
}

const SEALED = /^(?:v1\.([\w-]{1,32})|v2\.([\w-]{1,32})\.([\w-]{0,22}))\.([\w-]+)$/

/** Parses a sealed text; null for every other text. */
export function parseSealed (text: string): SealedParts | null {
  const [, firstId, secondId, hint, payload] = SEALED.exec(text) ?? []
  if (payload === undefined) return null
  return firstId === undefined
    ? { format: 'v2', keyId: String(secondId), hint: String(hint), payload }
    : { format: 'v1', keyId: firstId, hint: '', payload }
}

/** Returns the beginning of every text that a key seals in a format. */
export const prefixOf = (format: SealFormat, keyId: string) => `${format}.${keyId}.`

/** Formats a sealed text. */
export function formatSealed ({ format, keyId, hint, payload }: SealedParts): string {
  return prefixOf(format, keyId) + (format === 'v1' ? payload : `${hint}.${payload}`)
}
