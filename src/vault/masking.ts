import { MASK } from '../schemas/fields.js'

/** Masks a clear secret: `****` and its last four characters, or `****` alone below 16 characters. */
export function mask (secret: string): string {
  return MASK + tailOf(secret)
}

/** Returns what a mask shows of a clear secret: its last four characters, none below 16 characters. */
export function tailOf (secret: string): string {
  // Counts code points, of at most two UTF-16 units each: eight emoji are not 16 characters, and none is cut in half.
  const end = Array.from(secret.slice(-32))
  return end.length >= 16 ? end.slice(-4).join('') : ''
}

/** Whether a client sent a mask back in place of a secret. */
export function isMasked (value: string): boolean {
  return value.startsWith(MASK)
}
