import { setTimeout as delay } from 'node:timers/promises'

const KNOCK_EVERY_MS = 250

export type Outage = ReturnType<typeof createOutage>

/**
 * Knows whether the database is away, so that nobody waits for it in vain. Takes `knock`, which throws while the database lets nobody
 * in; once there is a suspicion it is asked, every 250 ms, until the outage is over.
 */
export function createOutage ({ knock }: { knock: () => Promise<void> }) {
  const closing = new AbortController()
  const { signal } = closing
  let isKnown = false
  let answeredAt = -Infinity
  let asking: Promise<void> | undefined

  async function askUntilOver (): Promise<void> {
    while (!signal.aborted) {
      const askedAt = performance.now()
      const isAway = await knock().then(() => false, () => answeredAt < askedAt)
      if (signal.aborted) return
      isKnown = isAway
      if (!isKnown) return
      await delay(KNOCK_EVERY_MS, undefined, { signal }).catch(() => {})
    }
  }

  return {
    /** Whether the database is away, as far as is known. */
    get isKnown () { return isKnown },

    /** Says that it may be away. */
    suspect (): void {
      asking ??= askUntilOver().finally(() => { asking = undefined })
    },

    /** Says that it has answered. */
    over (): void {
      if (signal.aborted) return
      answeredAt = performance.now()
      isKnown = false
    },

    /** Ends the asking: who closes asks the database no more, and takes it to be away for good. */
    async close (): Promise<void> {
      closing.abort()
      isKnown = true
      await asking
    }
  }
}
