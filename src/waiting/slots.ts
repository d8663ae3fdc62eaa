/** Runs works, at most `max` at a time. */
export function createSlots (max: number) {
  const running = new Set<Promise<void>>()
  let wake = () => {}

  return {
    /**
     * Starts a work once a slot is free, and resolves then. Takes one call at a time.
     *
     * @param work must not reject
     */
    async start (work: () => Promise<void>): Promise<void> {
      if (running.size >= max) await new Promise<void>((resolve) => { wake = resolve })
      const run = work().then(() => {
        running.delete(run)
        wake()
      })
      running.add(run)
    },

    /** Resolves when all works have ended that were started before. */
    idle: async (): Promise<void> => { await Promise.all(running) }
  }
}
