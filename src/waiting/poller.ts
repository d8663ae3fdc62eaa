/**
 * Runs `work` at the start, then again `periodMs` after each run has ended. Only one run is active at a time.
 *
 * @param work must not reject
 */
export function createPoller ({ periodMs, work }: { periodMs: number, work: () => Promise<void> }) {
  let timer: NodeJS.Timeout | undefined
  let running = Promise.resolve()
  let isStopped = false

  return {
    start,

    /** Starts no further run, and waits for the active one. */
    async stop (): Promise<void> {
      isStopped = true
      clearTimeout(timer)
      await running
    }
  }

  function start (): void {
    running = work().then(() => {
      if (!isStopped) timer = setTimeout(start, periodMs).unref()
    })
  }
}
