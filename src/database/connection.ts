import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { parseDatabaseUrl } from '../settings/database-url.js'
import { isLoopbackHost } from '../settings/loopback.js'
import { describeConnectError, mayPass } from './connect-errors.js'

const CONNECT_TIMEOUT_MS = 5000
const FIRST_PAUSE_MS = 100
const MAX_PAUSE_MS = 2000
const REPORT_EVERY_MS = 5000

/**
 * Returns the options of `pg` for the database of a URL. A pooler in transaction mode accepts them: they set nothing in
 * the session, unless the URL or PGOPTIONS has `options`.
 *
 * @param url postgres://…
 * @throws as `parseDatabaseUrl`
 */
export function sessionOptions (url: string) {
  const { connectTimeoutMs, application_name: name = 'whatsapp-tenant-config', ...target } = parseDatabaseUrl(url)
  return { ...target, application_name: name, keepAlive: true }
}

/** Whether `pg` would connect to another machine without TLS, by this URL and the PG* environment variables. */
export function isRemoteWithoutTls (url: string): boolean {
  const { host, ssl } = new pg.Client(sessionOptions(url))
  return !ssl && !host.startsWith('/') && !isLoopbackHost(host)
}

export interface Waiting {
  /** Milliseconds to wait for a database that starts or wakes up; 0 (the default) makes one attempt. */
  timeoutMs?: number
  /** Gets a line at the first failure, then every 5 seconds. */
  report?: (line: string) => void
  /** The setting with the URL, for errors; DATABASE_URL by default. */
  setting?: string
}

/**
 * Connects a client. An attempt may take the `connect_timeout` of the URL, by default 5 seconds; so may the first one
 * when `timeoutMs` is shorter. Makes another attempt only after a failure that may pass by itself.
 *
 * @param url postgres://…
 * @param config options of `pg` besides those of the URL
 * @throws an error for a person, without values, that names the setting or the parameter to change
 */
export async function connect (
  url: string, { timeoutMs = 0, report, setting }: Waiting = {}, config: pg.ClientConfig = {}
): Promise<pg.Client> {
  const { connectTimeoutMs = CONNECT_TIMEOUT_MS } = parseDatabaseUrl(url)
  const deadline = performance.now() + timeoutMs
  let reportAt = -Infinity
  let attemptMs = connectTimeoutMs
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
    const client = new pg.Client({ ...sessionOptions(url), ...config, connectionTimeoutMillis: attemptMs })
    // Without a listener the loss of an idle connection ends the process; with it the next statement fails.
    client.on('error', () => {})
    try {
      return await client.connect()
    } catch (err) {
      await endNow(client)
      const restMs = deadline - performance.now()
      if (restMs < FIRST_PAUSE_MS || !mayPass(err)) throw unreachable(err, setting)
      if (performance.now() >= reportAt) {
        report?.(`waiting for the database: ${describeConnectError(err, setting)}`)
        reportAt = performance.now() + REPORT_EVERY_MS
      }
      // The last pauses are shorter, so that the wait does not end long before its time.
      const shorterMs = Math.min(pauseMs, restMs / 2)
      await delay(shorterMs)
      attemptMs = Math.min(connectTimeoutMs, Math.ceil(restMs - shorterMs))
    }
  }
}

/**
 * Waits until the database accepts a connection.
 *
 * @throws as `connect`
 */
export async function waitForDatabase (url: string, waiting: Waiting): Promise<void> {
  await withClient(url, async () => {}, waiting)
}

/**
 * Runs `work` on a separate connection without statement timeout, and returns its result.
 *
 * @param url postgres://…
 * @throws what `work` throws; as `connect`
 */
export async function withConnection<T> (
  url: string, work: (db: NodePgDatabase) => Promise<T>, waiting: Waiting = {}
): Promise<T> {
  return await withClient(url, async (client) => await work(drizzle(client)), waiting)
}

/** As `withConnection`, for work that needs the client; `config` has options of `pg` besides those of the URL. */
export async function withClient<T> (
  url: string, work: (client: pg.Client) => Promise<T>, waiting: Waiting = {}, config: pg.ClientConfig = {}
): Promise<T> {
  const client = await connect(url, waiting, config)
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
 * @param options.timeoutMs the time for a statement. PostgreSQL ends it; on a dead connection the client does, a second
 * later
 * @param options.setting the setting with the URL, for errors
 * @throws as `connect`; an error for a person, without values, when the service could not read the texts or dates of
 * the database, and when a statement fails or takes too long
 */
export async function withReader<T> (
  url: string, work: (db: Reader) => Promise<T>,
  { timeoutMs = 30_000, setting }: Pick<Waiting, 'timeoutMs' | 'setting'> = {}
): Promise<T> {
  const client = await connect(url, { setting }, { query_timeout: timeoutMs + 1000 })
  try {
    await assertReadable(client, setting)
    return await drizzle(client).transaction(async (tx) => {
      await tx.execute(sql`select set_config('statement_timeout', ${String(timeoutMs)}, true)`)
      return await work(tx)
    }, { accessMode: 'read only' }).catch((err: unknown) => {
      const cause = err instanceof Error && err.cause !== undefined ? err.cause : err
      throw new Error(`The database does not answer a question: ${describeConnectError(cause, setting)}.`)
    })
  } finally {
    await endNow(client)
  }
}

/** @throws when the service would misread the texts or dates of the database, or when it does not answer */
export async function assertReadable (client: Pick<pg.ClientBase, 'query'>, setting?: string): Promise<void> {
  const settings = "select current_setting('server_encoding') as encoding, current_setting('datestyle') as datestyle"
  const answer = assertReachable(client.query<{ encoding: string, datestyle: string }>(settings), setting)
  const { rows: [session] } = await answer
  if (session?.encoding !== 'UTF8') {
    throw new Error('The database is not encoded in UTF8. ' +
      "Create one with: create database … encoding 'UTF8' template template0")
  }
  // The service does not set it: a pooler would keep it for other clients, or refuse it.
  if (!session.datestyle.startsWith('ISO')) {
    throw new Error(`The database writes dates in the style ${session.datestyle}, not ISO. ` +
      "Run: alter role … set datestyle = 'ISO'")
  }
}

/**
 * Returns the first answer of the database.
 *
 * @throws an error for a person, without values, when there is no answer
 */
export async function assertReachable<T> (answer: Promise<T>, setting?: string): Promise<T> {
  try {
    return await answer
  } catch (err) {
    throw unreachable(err, setting)
  }
}

const unreachable = (err: unknown, setting?: string) =>
  new Error(`The database cannot be reached: ${describeConnectError(err, setting)}.`)

/** Ends a client, also one of a server that does not answer: `end` alone would wait for it. */
async function endNow (client: pg.Client): Promise<void> {
  const ended = client.end()
  client.connection.stream.destroy()
  await ended
}
