import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'

/** A new key in base64, for `ENCRYPTION_KEYS`. */
export const newKey = () => randomBytes(32).toString('base64')

/** Waits until a condition is true; throws after 20 seconds. */
export async function until (condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 20_000; !await condition(); await delay(10)) {
    if (Date.now() > end) throw new Error(`not within 20 s: ${String(condition)}`)
  }
}
