import { setTimeout as delay } from 'node:timers/promises'

const PROBE_INTERVAL_MS = 250

export type OutageDetector = ReturnType<typeof createOutageDetector>

/**
 * Knows whether the database is away, so that nobody waits for it in vain. Takes `knock`, which throws while the database lets nobody
 * in; once there is a suspicion it is asked, every 250 ms, until the outage is over.
 */
export function createOutageDetector ({ probe }: { probe: () => Promise<void> }) {
  const closing = new AbortController()
  const { signal } = closing
  let isKnown = false
  let lastUpAt = -Infinity
  let probing: Promise<void> | undefined

  async function probeUntilUp (): Promise<void> {
    while (!signal.aborted) {
      const probedAt = performance.now()
      const hasFailed = await probe().then(() => false, () => lastUpAt < probedAt)
      if (signal.aborted) return
      isKnown = hasFailed
      if (!isKnown) return
      await delay(PROBE_INTERVAL_MS, undefined, { signal }).catch(() => {})
    }
  }

  return {
    /** Whether the database is away, as far as is known. */
    get isDown () { return isKnown },

    /** Says that it may be away. */
    reportFailure (): void {
      probing ??= probeUntilUp().finally(() => { probing = undefined })
    },

    /** Says that it has answered. */
    markUp (): void {
      if (signal.aborted) return
      lastUpAt = performance.now()
      isKnown = false
    },

    /** Ends the asking: who closes asks the database no more, and takes it to be away for good. */
    async close (): Promise<void> {
      closing.abort()
      isKnown = true
      await probing
    }
  }
}
