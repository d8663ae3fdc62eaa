import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'

const CONNECT_TIMEOUT_MS = 5000

/**
 * Runs `work` on a connection of its own, which gives a statement all the time it takes.
 * Takes a postgres:// URL; returns what `work` returns; throws what it throws, and when there is no connection.
 */
export async function withConnection<T> (url: string, work: (db: NodePgDatabase) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_TIMEOUT_MS })
  // Without a listener the loss of the connection between two statements ends the process; with it the next one fails.
  client.on('error', () => {})
  await client.connect()
  try {
    return await work(drizzle(client))
  } finally {
    await client.end()
  }
}
