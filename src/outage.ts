import { setTimeout as delay } from 'node:timers/promises'

const PING_EVERY_MS = 250

export type Outage = ReturnType<typeof createOutage>

/**
 * Knows whether the database is away, so that nobody waits for it in vain. Takes `ping`, which throws while the database does not
 * answer; it is asked every 250 ms until the outage is over.
 */
export function createOutage ({ ping }: { ping: () => Promise<void> }) {
  const closing = new AbortController()
  let isKnown = false
  let asking = Promise.resolve()

  function also (work: Promise<void>): void {
    asking = Promise.all([asking, work]).then(() => {})
  }

  const answers = async () => await ping().then(() => true, () => false)

  const goesOn = () => isKnown && !closing.signal.aborted

  async function untilOver (): Promise<void> {
    while (goesOn() && !await answers()) await delay(PING_EVERY_MS, undefined, { signal: closing.signal }).catch(() => {})
    isKnown = false
  }

  /** Says that the database did not answer. */
  function report (): void {
    if (isKnown) return
    isKnown = true
    also(untilOver())
  }

  return {
    /** Whether the database is away, as far as is known. */
    get isKnown () { return isKnown },

    report,

    /** Says that it may be away: it is asked first. */
    suspect (): void {
      also(answers().then((doesAnswer) => { if (!doesAnswer) report() }))
    },

    /** Says that the database has answered. */
    over (): void { isKnown = false },

    /** Ends the asking. */
    async close (): Promise<void> {
      closing.abort()
      await asking
    }
  }
}
