import { startEmbedded } from '../database/embedded/embedded.js'
import { readEnv } from '../settings/env.js'
import type { StopAtEnd } from './command.js'
import { readCommandSettings } from './command-settings.js'

/** Returns the URL of the database in the settings, without a pooler. Starts the embedded one for the command. */
export async function startDatabase (stopAtEnd: StopAtEnd): Promise<string> {
  const env = await readEnv(await readCommandSettings())
  const { DATABASE_URL: url = 'embedded', DATABASE_DIRECT_URL: directUrl = url, DATA_DIR } = env
  if (url !== 'embedded') return directUrl
  const database = await stopAtEnd(startEmbedded(DATA_DIR), async (database) => await database.stop())
  return database.url
}
