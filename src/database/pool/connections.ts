import type pg from 'pg'

// A request may wait twice, since it may send a second statement.
const QUEUE_TIMEOUT_MS = 1500

/** Takes connections from a pool; the caller releases them. */
export function createConnections (pool: pg.Pool) {
  const openedAt = new WeakMap<pg.PoolClient, number>()
  pool.on('connect', (client) => {
    // The pool listens to idle clients only, and an error without a listener ends the process.
    client.on('error', () => {})
    openedAt.set(client, performance.now())
  })

  return {
    take,

    /**
     * Takes a connection that was opened after a time (ms of `performance.now()`); any one when `isAnyGood`. Closes
     * older idle connections: the cause often ended them all, and the pool may not have noticed.
     */
    async takeNewerThan (time: number, isAnyGood: () => boolean): Promise<pg.PoolClient> {
      for (;;) {
        const client = await take()
        if (Number(openedAt.get(client)) > time || isAnyGood()) return client
        client.release(true)
      }
    }
  }

  /** Waits less long for a connection in use than for a new one, which may have far to go. */
  function take (): Promise<pg.PoolClient> {
    const isQueued = pool.idleCount === 0 && pool.totalCount >= pool.options.max
    return isQueued ? takeReleased() : pool.connect()
  }

  async function takeReleased (): Promise<pg.PoolClient> {
    let timer: NodeJS.Timeout | undefined
    let isLate = false
    const timeout = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        isLate = true
        reject(new Error('no connection became free in time'))
      }, QUEUE_TIMEOUT_MS)
    })
    const connecting = pool.connect().then((client) => {
      if (isLate) client.release()
      return client
    })
    return await Promise.race([connecting, timeout]).finally(() => { clearTimeout(timer) })
  }
}
