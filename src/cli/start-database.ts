import { startEmbedded } from '../database/embedded/embedded.js'
import { readEnv } from '../settings/env.js'
import type { StopAtEnd } from './command.js'
import { readCommandSettings } from './command-settings.js'

/** Returns the URL of the database that the settings name, without a pooler in between; the embedded one is started for it and held. */
export async function startDatabase (stopAtEnd: StopAtEnd): Promise<string> {
  const { DATABASE_URL: url = 'embedded', DATABASE_DIRECT_URL: directUrl = url, DATA_DIR } = await readEnv(await readCommandSettings())
  if (url !== 'embedded') return directUrl
  const database = await stopAtEnd(startEmbedded(DATA_DIR), async (database) => await database.stop())
  return database.url
}
