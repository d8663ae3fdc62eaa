export type Poller = ReturnType<typeof createPoller>

/**
 * Runs `work` at the start, then again `periodMs` after each run has ended. Only one run is active at a time.
 *
 * @param work must not reject
 */
export function createPoller ({ periodMs, work }: { periodMs: number, work: () => Promise<void> }) {
  let timer: NodeJS.Timeout | undefined
  let running = Promise.resolve()
  let isRunning = false
  let isDueAgain = false
  let isStopped = false

  return {
    start: wake,

    /** Runs the work without waiting for the period: now, or once more after the active run. */
    wake,

    /** Starts no further run, and waits for the active one. */
    async stop (): Promise<void> {
      isStopped = true
      isDueAgain = false
      clearTimeout(timer)
      await running
    }
  }

  function wake (): void {
    if (isStopped) return
    isDueAgain = true
    if (isRunning) return
    clearTimeout(timer)
    running = runWhileDue()
  }

  async function runWhileDue (): Promise<void> {
    isRunning = true
    while (isDueAgain) {
      isDueAgain = false
      await work()
    }
    isRunning = false
    if (!isStopped) timer = setTimeout(wake, periodMs).unref()
  }
}
