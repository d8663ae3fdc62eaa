import { MASK } from '../schemas/fields.js'

/** Masks a clear secret: `****` and its last four characters, or `****` alone below 16 characters. */
export function mask (secret: string): string {
  // Counts code points, of at most two UTF-16 units each: eight emoji are not 16 characters, and none is cut in half.
  const end = Array.from(secret.slice(-32))
  return end.length >= 16 ? MASK + end.slice(-4).join('') : MASK
}

/** Whether a client sent a mask back in place of a secret. */
export function isMasked (value: string): boolean {
  return value.startsWith(MASK)
}
