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

/** Deletes expired rows every minute, in batches, so that no request has to. Any number of processes may do so at once. */
export function createSweeper ({ database, closing, log }: SweeperDependencies) {
  let timer: NodeJS.Timeout | undefined
  let sweeping = Promise.resolve()

  return {
    sweep,

    /** Sweeps now, and from then on every minute. */
    start,

    /** Resolves when no sweep is under way and none will follow, soon after `closing` is aborted. */
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

  /** Deletes what has expired. What cannot be deleted now is left to the next sweep. */
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

/** Sweeps from the moment the server is ready until it closes. */
async function sweeper (fastify: FastifyInstance): Promise<void> {
  const { database, closing, log } = fastify
  const sweeper = createSweeper({ database, closing, log })
  fastify.addHook('onReady', async () => { sweeper.start() })
  // Before the hook of the database, which was registered earlier.
  fastify.addHook('onClose', async () => { await sweeper.stopped() })
}

export default fp(sweeper, { name: 'sweeper', dependencies: ['database', 'closing'] })
