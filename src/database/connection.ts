import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { isLoopbackHost } from '../settings/loopback.js'
import { reason } from '../logger.js'

const CONNECT_TIMEOUT_MS = 5000

/**
 * Describes to `pg` a session in UTC that writes dates as ISO, whatever else the database and the `options` of the URL say.
 * Takes a postgres:// URL.
 */
export function sessionOptions (url: string) {
  // At a % that stands for itself, pg would encode what is encoded already.
  const target = new URL(url.replace(/%(?![0-9a-f]{2})/gi, '%25'))
  // What comes later wins. The URL's own would replace these.
  const options = [...target.searchParams.getAll('options'), '-c timezone=UTC -c datestyle=ISO'].join(' ')
  target.searchParams.delete('options')
  return { connectionString: target.href, options, application_name: 'whatsapp-tenant-config', keepAlive: true }
}

/** Says whether `pg` connects to another machine without TLS, by this postgres:// URL and its environment variables. */
export function isRemoteWithoutTls (url: string): boolean {
  const { host, ssl } = new pg.Client(sessionOptions(url))
  return !ssl && !host.startsWith('/') && !isLoopbackHost(host)
}

/**
 * Runs `work` on a connection of its own, which gives a statement all the time it takes.
 * Takes a postgres:// URL; returns what `work` returns; throws what it throws, and when there is no connection within 5 seconds.
 */
export async function withConnection<T> (url: string, work: (db: NodePgDatabase) => Promise<T>): Promise<T> {
  const client = new pg.Client({ ...sessionOptions(url), connectionTimeoutMillis: CONNECT_TIMEOUT_MS })
  // Without a listener the loss of the connection between two statements ends the process; with it the next one fails.
  client.on('error', () => {})
  await assertReachable(client.connect())
  try {
    return await work(drizzle(client))
  } finally {
    await client.end()
  }
}

/**
 * Waits for the first answer of the database and returns it.
 * Throws, when there is none, an error for a person that names neither user nor password nor database.
 */
export async function assertReachable<T> (answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (err) {
    throw new Error(`The database cannot be reached: ${describeConnectError(err)}. See that it runs and that DATABASE_URL is right.`)
  }
}

function describeConnectError (err: unknown): string {
  // PostgreSQL's own words name the user or the database.
  if (err instanceof pg.DatabaseError) return `PostgreSQL refuses with SQLSTATE ${err.code}`
  // Of a timeout the pool speaks; what lies beneath only says that the connection ended.
  return err instanceof Error && err.message !== '' ? err.message : reason(err)
}
