import { MASK } from '../schemas/fields.js'

/**
 * Masks a secret for reading: `****` and its last four characters, or `****` alone when it is shorter than 16.
 * Takes the clear secret.
 */
export function mask (secret: string): string {
  // By code points: eight emoji are not 16 characters, and no half of one is left over. No code point is longer than two units.
  const end = Array.from(secret.slice(-32))
  return end.length >= 16 ? MASK + end.slice(-4).join('') : MASK
}

/** Says whether a value sent for a secret is one of our masks, sent back. */
export function isMasked (value: string): boolean {
  return value.startsWith(MASK)
}
