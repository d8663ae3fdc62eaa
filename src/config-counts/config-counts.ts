import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Database } from '../database/database.js'
import { createPoller } from '../waiting/poller.js'
import { foldBatch } from './config-counts.sql.js'

/** The statistics read every change that is not folded: one takes less than a microsecond. */
const PERIOD_MS = 5000

interface FolderDependencies {
  database: Pick<Database, 'run' | 'count'>
  /** Ends the folding. */
  closing: AbortSignal
  log: Pick<FastifyInstance['log'], 'warn'>
}

/** Folds the changes of counts every 5 seconds, in batches. One process at a time does so. */
export function createFolder ({ database, closing, log }: FolderDependencies) {
  return createPoller({ periodMs: PERIOD_MS, work: foldAll })

  async function foldAll (): Promise<void> {
    try {
      while (!closing.aborted && await foldBatch(database));
    } catch (err) {
      log.warn({ err }, 'the changes of counts could not be folded; the next poll tries again')
    }
  }
}

/** Runs the folder from `onReady` to `onClose`. */
async function configCounts (fastify: FastifyInstance): Promise<void> {
  const { database, closing, log } = fastify
  const folder = createFolder({ database, closing, log })
  fastify.addHook('onReady', async () => { folder.start() })
  // Before the hook of the database, which was registered earlier.
  fastify.addHook('onClose', async () => { await folder.stop() })
}

export default fp(configCounts, { name: 'config-counts', dependencies: ['database', 'closing'] })
