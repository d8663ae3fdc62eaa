import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'

/** A new key in base64, for `ENCRYPTION_KEYS`. */
export const newKey = () => randomBytes(32).toString('base64')

/** Waits until a condition is true; throws after `ms` milliseconds. */
export async function until (condition: () => boolean | Promise<boolean>, ms = 20_000): Promise<void> {
  for (const end = Date.now() + ms; !await condition(); await delay(10)) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${String(condition)}`)
  }
}
