import { setTimeout as delay } from 'node:timers/promises'

const PROBE_INTERVAL_MS = 250

export type OutageDetector = ReturnType<typeof createOutageDetector>

/**
 * Detects an outage of the database, which saves callers a wait in vain. After a reported failure it calls `probe`
 * every 250 ms until the outage ends; `probe` throws while no new connection is accepted.
 */
export function createOutageDetector ({ probe }: { probe: () => Promise<void> }) {
  const closing = new AbortController()
  const { signal } = closing
  let isDown = false
  let lastUpAt = -Infinity
  let probing: Promise<void> | undefined

  async function probeUntilUp (): Promise<void> {
    while (!signal.aborted) {
      const probedAt = performance.now()
      const hasFailed = await probe().then(() => false, () => lastUpAt < probedAt)
      if (signal.aborted) return
      isDown = hasFailed
      if (!isDown) return
      await delay(PROBE_INTERVAL_MS, undefined, { signal }).catch(() => {})
    }
  }

  return {
    /** Whether the database is down, by the latest probe. */
    get isDown () { return isDown },

    /** Starts to probe. */
    reportFailure (): void {
      probing ??= probeUntilUp().finally(() => { probing = undefined })
    },

    /** Ends the outage: the database has answered. The failure of a probe that began earlier is ignored. */
    markUp (): void {
      if (signal.aborted) return
      lastUpAt = performance.now()
      isDown = false
    },

    /** Stops probing; the database counts as down from now on. */
    async close (): Promise<void> {
      closing.abort()
      isDown = true
      await probing
    }
  }
}
