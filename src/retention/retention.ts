import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Database } from '../database/database.js'
import { createPoller } from '../waiting/poller.js'
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
  return { sweep, ...createPoller({ periodMs: PERIOD_MS, work: sweep }) }

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
  fastify.addHook('onClose', async () => { await sweeper.stop() })
}

export default fp(sweeper, { name: 'sweeper', dependencies: ['database', 'closing'] })
