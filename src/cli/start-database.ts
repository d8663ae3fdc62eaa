import { waitForDatabase } from '../database/connection.js'
import { findEmbedded } from '../database/embedded/access.js'
import { startEmbedded } from '../database/embedded/embedded.js'
import type { Env } from '../settings/env.js'
import type { StopAtEnd } from './command.js'

/**
 * Returns the URL of the database in the settings, without a pooler. Starts the embedded one for the command, and waits
 * for another one that starts.
 */
export async function startDatabase (stopAtEnd: StopAtEnd, env: Env): Promise<string> {
  const { DATABASE_URL: url = 'embedded', DATABASE_DIRECT_URL: directUrl = url, DATA_DIR } = env
  if (url !== 'embedded') {
    await waitForDatabase(directUrl, {
      timeoutMs: env.DATABASE_START_TIMEOUT_MS,
      report: console.error,
      setting: env.DATABASE_DIRECT_URL === undefined ? 'DATABASE_URL' : 'DATABASE_DIRECT_URL'
    })
    return directUrl
  }
  const database = await stopAtEnd(startEmbedded(DATA_DIR), async (database) => await database.stop())
  return database.url
}

/** As `startDatabase`, but leaves an embedded database that runs to its service, and uses it too. */
export async function joinDatabase (stopAtEnd: StopAtEnd, env: Env): Promise<string> {
  const { DATABASE_URL: url = 'embedded', DATA_DIR } = env
  const running = url === 'embedded' ? await findEmbedded(DATA_DIR) : null
  return running?.is === 'running' ? running.url : await startDatabase(stopAtEnd, env)
}
