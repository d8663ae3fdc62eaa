const IN_FLIGHT = 8

/** Runs the work on each of the items, eight at a time. */
export async function inFlight<T> (items: T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const rest = items.values()
  await Promise.all(Array.from({ length: IN_FLIGHT }, async () => { for (const item of rest) await work(item) }))
}
