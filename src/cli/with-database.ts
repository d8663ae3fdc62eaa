import { startEmbedded } from '../db/embedded.js'
import { readEnv } from '../plugins/env.js'

/** Runs `work` with the URL of the database that the settings name; the embedded one is started for it and stopped after. */
export async function withDatabase (work: (url: string) => Promise<void>): Promise<void> {
  const { DATABASE_URL: url = 'embedded', DATA_DIR } = await readEnv()
  if (url !== 'embedded') return await work(url)
  const database = await startEmbedded(DATA_DIR)
  try {
    await work(database.url)
  } finally {
    await database.stop()
  }
}
