import { sql } from 'drizzle-orm'
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
  return { connectionString: target.href, application_name: 'whatsapp-tenant-config', keepAlive: true }
}

/** Whether `pg` would connect to another machine without TLS, by this URL and the PG* environment variables. */
export function isRemoteWithoutTls (url: string): boolean {
  const { host, ssl } = new pg.Client(sessionOptions(url))
  return !ssl && !host.startsWith('/') && !isLoopbackHost(host)
}

/** Connects. STUB until the branch dburl is merged. */
export async function connect (url: string, _options: { timeoutMs: number, report: (line: string) => void }) {
  const client = new pg.Client({ ...sessionOptions(url), connectionTimeoutMillis: CONNECT_TIMEOUT_MS })
  client.on('error', () => {})
  await assertReachable(client.connect())
  return client
}

/**
 * Runs `work` on a separate connection without statement timeout, and returns its result.
 *
 * @param url postgres://…
 * @throws what `work` throws; an error for a person when there is no connection within 5 seconds
 */
export async function withConnection<T> (url: string, work: (db: NodePgDatabase) => Promise<T>): Promise<T> {
  return await withClient(url, async (client) => await work(drizzle(client)))
}

/** As `withConnection`, for work that needs the client itself. */
export async function withClient<T> (url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ ...sessionOptions(url), connectionTimeoutMillis: CONNECT_TIMEOUT_MS })
  // Without a listener the loss of an idle connection ends the process; with it the next statement fails.
  client.on('error', () => {})
  await assertReachable(client.connect())
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

/** Reads, and cannot write. */
export type Reader = Pick<NodePgDatabase, 'execute'>

/**
 * Runs `work` in a read-only transaction on a separate connection, for a person who examines the database. Ends in
 * bounded time, also when the database does not answer.
 *
 * @param url postgres://…
 * @param timeoutMs the time for a statement. PostgreSQL ends it; on a dead connection the client does, a second later
 * @throws an error for a person, without values, when there is no connection within 5 seconds, when the service could
 * not read the texts or dates of the database, and when a statement fails or takes too long
 */
export async function withReader<T> (
  url: string, work: (db: Reader) => Promise<T>, timeoutMs = 30_000
): Promise<T> {
  const timeouts = { connectionTimeoutMillis: CONNECT_TIMEOUT_MS, query_timeout: timeoutMs + 1000 }
  const client = new pg.Client({ ...sessionOptions(url), ...timeouts })
  client.on('error', () => {})
  try {
    await assertReachable(client.connect())
    await assertReadable(client)
    return await drizzle(client).transaction(async (tx) => {
      await tx.execute(sql`select set_config('statement_timeout', ${String(timeoutMs)}, true)`)
      return await work(tx)
    }, { accessMode: 'read only' }).catch((err: unknown) => {
      const cause = err instanceof Error && err.cause !== undefined ? err.cause : err
      throw new Error(`The database does not answer a question: ${describeConnectError(cause)}.`)
    })
  } finally {
    const ended = client.end()
    // `end` alone would wait forever for a server that does not answer.
    client.connection.stream.destroy()
    await ended
  }
}

/** @throws when the service would misread the texts or dates of the database, or when it does not answer */
export async function assertReadable (client: Pick<pg.ClientBase, 'query'>): Promise<void> {
  const settings = "select current_setting('server_encoding') as encoding, current_setting('datestyle') as datestyle"
  const { rows: [session] } = await assertReachable(client.query<{ encoding: string, datestyle: string }>(settings))
  if (session?.encoding !== 'UTF8') {
    throw new Error('The database is not encoded in UTF8. ' +
      "Create one with: create database … encoding 'UTF8' template template0")
  }
  // A pooler may drop the `options` that set ISO dates.
  if (!session.datestyle.startsWith('ISO')) {
    throw new Error(`The database writes dates in the style ${session.datestyle}, not ISO. ` +
      "Run: alter role … set datestyle = 'ISO'")
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
