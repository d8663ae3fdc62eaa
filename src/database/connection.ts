import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { isLoopbackHost } from '../settings/loopback.js'
import { describeForTerminal } from '../logger.js'

const CONNECT_TIMEOUT_MS = 5000

/**
 * Returns the options of `pg` for a session in UTC with ISO dates. They override the settings of the database and the
 * `options` of the URL.
 *
 * @param url postgres://…
 */
export function sessionOptions (url: string) {
  // At a literal %, pg would encode the whole URL again.
  const target = new URL(url.replace(/%(?![0-9a-f]{2})/gi, '%25'))
  // The last of several options wins. `options` in the URL would replace the argument.
  const options = [...target.searchParams.getAll('options'), '-c timezone=UTC -c datestyle=ISO'].join(' ')
  target.searchParams.delete('options')
  return { connectionString: target.href, options, application_name: 'whatsapp-tenant-config', keepAlive: true }
}

/** Whether `pg` would connect to another machine without TLS, by this URL and the PG* environment variables. */
export function isRemoteWithoutTls (url: string): boolean {
  const { host, ssl } = new pg.Client(sessionOptions(url))
  return !ssl && !host.startsWith('/') && !isLoopbackHost(host)
}

/**
 * Runs `work` on a separate connection without statement timeout, and returns its result.
 *
 * @param url postgres://…
 * @throws what `work` throws; an error for a person when there is no connection within 5 seconds
 */
export async function withConnection<T> (url: string, work: (db: NodePgDatabase) => Promise<T>): Promise<T> {
  const client = new pg.Client({ ...sessionOptions(url), connectionTimeoutMillis: CONNECT_TIMEOUT_MS })
  // Without a listener the loss of an idle connection ends the process; with it the next statement fails.
  client.on('error', () => {})
  await assertReachable(client.connect())
  try {
    return await work(drizzle(client))
  } finally {
    await client.end()
  }
}

/**
 * Returns the first answer of the database.
 *
 * @throws an error for a person that names neither user nor password nor database, when there is no answer
 */
export async function assertReachable<T> (answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (err) {
    throw new Error(`The database cannot be reached: ${describeConnectError(err)}. ` +
      'See that it runs and that DATABASE_URL is right.')
  }
}

function describeConnectError (err: unknown): string {
  // PostgreSQL's message names the user or the database.
  if (err instanceof pg.DatabaseError) return `PostgreSQL refuses with SQLSTATE ${err.code}`
  // The pool's message names a timeout; its cause is only the end of the connection.
  return err instanceof Error && err.message !== '' ? err.message : describeForTerminal(err)
}
