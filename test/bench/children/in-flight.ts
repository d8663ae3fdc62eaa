const IN_FLIGHT = 8

/** Executes the work for each item, eight at a time. */
export async function inFlight<T> (items: T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const rest = items.values()
  await Promise.all(Array.from({ length: IN_FLIGHT }, async () => { for (const item of rest) await work(item) }))
}
