import { startEmbedded } from '../db/embedded.js'
import { readEnv } from '../plugins/env.js'
import type { Hold } from './command.js'

/** Returns the URL of the database that the settings name; the embedded one is started for it and held. */
export async function databaseUrl (hold: Hold): Promise<string> {
  const { DATABASE_URL: url = 'embedded', DATA_DIR } = await readEnv()
  if (url !== 'embedded') return url
  const database = await hold(startEmbedded(DATA_DIR), async (database) => await database.stop())
  return database.url
}
