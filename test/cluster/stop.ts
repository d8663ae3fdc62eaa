import { startEmbedded } from '../../src/database/embedded/embedded.js'
import { CLUSTER_DIR } from './where.js'

// Starting adopts the PostgreSQL that start.ts left running.
if (process.env['TEST_DATABASE_URL'] === undefined) {
  const database = await startEmbedded(CLUSTER_DIR)
  await database.stop()
}
