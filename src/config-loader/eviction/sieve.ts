/** An entry of a sieve. `isVisited`: it was read since the hand last passed it. */
export interface SieveEntry { isVisited: boolean }

/** An iterator without entries: the hand before its first lap. */
const ended = (): Iterator<never, undefined> => [].values()

/**
 * Creates a map of at most `max` entries, at least one, which evicts by SIEVE: a hand goes from the oldest entry to the
 * newest and evicts the first that was not read since its last lap. A read writes one mark, once; that of an LRU
 * cache moves the entry in a list, which costs most of a read of many entries at random.
 * Source: Zhang et al., "SIEVE is Simpler than LRU", NSDI '24
 */
export function createSieve<E extends SieveEntry> (max: number) {
  const entries = new Map<string, E>()
  // The iterator of a Map goes on after its changes. It is not begun before it is needed: it keeps former, smaller
  // tables of the Map in memory.
  let hand: Iterator<[string, E], undefined> = ended()

  function evict (): void {
    for (;;) {
      const { value: oldest } = hand.next()
      if (oldest === undefined) hand = entries.entries()
      else if (!oldest[1].isVisited) {
        entries.delete(oldest[0])
        return
      } else oldest[1].isVisited = false
    }
  }

  return {
    /** Returns the entry, and marks it as read. */
    get (key: string): E | undefined {
      const entry = entries.get(key)
      // A write that is not needed would still cost: the processor writes the memory back.
      if (entry?.isVisited === false) entry.isVisited = true
      return entry
    },

    /** Returns the entry without a mark. */
    peek: (key: string): E | undefined => entries.get(key),

    /** Adds an entry. One that replaces another takes its place. */
    set (key: string, entry: E): void {
      if (entries.size >= max && !entries.has(key)) evict()
      entries.set(key, entry)
    },

    delete (key: string): void { entries.delete(key) },

    clear (): void {
      entries.clear()
      hand = ended()
    },

    /** The number of entries. */
    get size () { return entries.size }
  }
}
