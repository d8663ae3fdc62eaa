import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Database } from '../database/database.js'
import { deleteExpired, expiries } from './retention.sql.js'

const PERIOD_MS = 60_000

interface SweeperDependencies {
  database: Pick<Database, 'run' | 'count' | 'transaction'>
  /** Ends the sweep. */
  closing: AbortSignal
  log: Pick<FastifyInstance['log'], 'warn'>
}

/** Deletes expired rows every minute, in batches. Any number of processes may do so at once. */
export function createSweeper ({ database, closing, log }: SweeperDependencies) {
  let timer: NodeJS.Timeout | undefined
  let sweeping = Promise.resolve()

  return {
    sweep,

    /** Sweeps now, then every minute. */
    start,

    /** Resolves when no sweep runs and none will follow, soon after `closing` is aborted. */
    async stopped (): Promise<void> {
      clearTimeout(timer)
      await sweeping
    }
  }

  function start (): void {
    sweeping = sweep().then(() => {
      if (!closing.aborted) timer = setTimeout(start, PERIOD_MS).unref()
    })
  }

  /** Deletes all expired rows; a table whose deletion fails is left to the next sweep. */
  async function sweep (): Promise<void> {
    for (const expiry of expiries) {
      try {
        while (!closing.aborted && await deleteExpired(database, expiry));
      } catch (err) {
        log.warn({ err, table: expiry.table }, 'expired rows could not be deleted; the next sweep tries again')
      }
    }
  }
}

/** Runs the sweeper from `onReady` to `onClose`. */
async function sweeper (fastify: FastifyInstance): Promise<void> {
  const { database, closing, log } = fastify
  const sweeper = createSweeper({ database, closing, log })
  fastify.addHook('onReady', async () => { sweeper.start() })
  // Before the hook of the database, which was registered earlier.
  fastify.addHook('onClose', async () => { await sweeper.stopped() })
}

export default fp(sweeper, { name: 'sweeper', dependencies: ['database', 'closing'] })
