/** The queues of some lanes, over the same items. The due times are ticks. */
export function createBucketQueues (lanes: number, items: number, ticks: number) {
  const NONE = -1
  const heads = Array.from({ length: lanes }, () => new Int32Array(ticks).fill(NONE))
  const cursors = new Int32Array(lanes)
  // An item is in one bucket at most.
  const following = new Int32Array(items)

  return {
    /** Adds an item to a lane; drops it when it is due after the last tick. */
    push (lane: number, item: number, tick: number): void {
      const head = heads[lane]
      if (head === undefined || tick >= ticks) return
      following[item] = head[tick] ?? NONE
      head[tick] = item
    },

    /** Takes the item of a lane that has been due longest; -1 when none is due. */
    pop (lane: number, tick: number): number {
      const head = heads[lane]
      if (head === undefined) return NONE
      let cursor = cursors[lane] ?? 0
      while (cursor <= tick && head[cursor] === NONE) cursor++
      cursors[lane] = cursor
      if (cursor > tick) return NONE
      const item = head[cursor] ?? NONE
      head[cursor] = following[item] ?? NONE
      return item
    }
  }
}
