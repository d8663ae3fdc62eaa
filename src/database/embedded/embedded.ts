import { Socket } from 'node:net'
import type { TimerOptions } from 'node:timers'
import { setTimeout as delay } from 'node:timers/promises'
import { Client, DatabaseError } from 'pg'
import { ensureDataDir } from '../../settings/data-dir.js'
import { DATABASE, urlOf } from './access.js'
import { ensureCluster, type Cluster } from './cluster.js'
import { freePort } from './free-port.js'
import { Postmaster, POLL_MS } from './postmaster.js'

const LOCK_ID = 818_110_818
/** PostgreSQL releases the lock of a killed server within this time. */
const LOCK_TIMEOUT_MS = 2000
/** Orphaned backends, or a concurrent start, may block a start for this time. */
const SPAWN_TIMEOUT_MS = 10_000
const TRANSIENT_FAILURE = /already exists|still in use|Address already in use/

/** A PostgreSQL that belongs to this process and is restarted whenever it dies, until `stop`. */
export interface EmbeddedDatabase {
  /** The connection string, with the password. A restart keeps it valid. */
  url: string
  /** Stops PostgreSQL; resolves when its process has ended. */
  stop (): Promise<void>
}

/** Compatible with Pino. `warn` reports failures before a retry. */
export interface EmbeddedLog {
  info (message: string): void
  warn (message: string): void
}

/**
 * Runs PostgreSQL on the data directory, and restarts it whenever it dies. Creates its files, or adopts a PostgreSQL
 * that an earlier process left running. An advisory lock in the database admits one process at a time.
 *
 * @param dataDir the setting DATA_DIR
 * @param log never gets the password
 * @param timeoutMs the time within which PostgreSQL must be ready, crash recovery included
 * @throws when another process uses the data directory, which stays untouched; when PostgreSQL is not ready in time
 */
export async function startEmbedded (
  dataDir: string, log?: EmbeddedLog, timeoutMs = 60_000
): Promise<EmbeddedDatabase> {
  const dir = await ensureDataDir(dataDir)
  const cluster = await ensureCluster(dir, (message) => log?.info(message))
  const server = new EmbeddedServer(dir, cluster, log, timeoutMs)
  await server.start()
  return server
}

class EmbeddedServer implements EmbeddedDatabase {
  readonly #dataDir: string
  readonly #cluster: Cluster
  readonly #log: EmbeddedLog | undefined
  readonly #timeoutMs: number
  readonly #postmaster: Postmaster
  readonly #stopping = new AbortController()
  #port: number | undefined
  #isInUseElsewhere = false
  #recovering = Promise.resolve()
  #stopped: Promise<void> | undefined

  constructor (dataDir: string, cluster: Cluster, log: EmbeddedLog | undefined, timeoutMs: number) {
    this.#dataDir = dataDir
    this.#cluster = cluster
    this.#log = log
    this.#timeoutMs = timeoutMs
    this.#postmaster = new Postmaster(cluster)
  }

  get url (): string {
    return urlOf(this.#port, DATABASE, this.#cluster.password)
  }

  async start (): Promise<void> {
    try {
      await this.#bringUp({})
    } catch (err) {
      if (this.#postmaster.isChildRunning && !this.#isInUseElsewhere) await this.#postmaster.stop()
      throw err
    }
  }

  stop (): Promise<void> {
    this.#stopped ??= this.#shutDown()
    return this.#stopped
  }

  // PostgreSQL itself releases the lock when it ends: no other process adopts a server that is stopping.
  async #shutDown (): Promise<void> {
    this.#stopping.abort()
    await this.#recovering
    if (!this.#isInUseElsewhere) await this.#postmaster.stop()
  }

  async #bringUp (timer: TimerOptions): Promise<void> {
    const startedAt = Date.now()
    let hasStarted = false
    let lastFault = ''
    for (;;) {
      const file = await this.#postmaster.find()
      if (file?.isReady === true) {
        try {
          await this.#acquireLock(file.port)
          this.#port = file.port
          return
        } catch (err) {
          lastFault = this.#describeConnectError(err)
        }
      } else if (file?.isLive !== true && !this.#postmaster.isChildRunning) {
        if (hasStarted) {
          await this.#assertTransient(startedAt)
          await delay(100, undefined, timer)
        }
        hasStarted = true
        // Clients keep the port of a postmaster that died. PostgreSQL removes the file when that port is in use.
        await this.#postmaster.start(this.#port ?? (file?.port || await freePort()), file?.pid)
      }
      if (Date.now() - startedAt > this.#timeoutMs) {
        const failure = await this.#postmaster.readFailure()
        throw new Error(`PostgreSQL was not ready within ${this.#timeoutMs} ms. ${lastFault}\n${failure}`)
      }
      await delay(POLL_MS, undefined, timer)
    }
  }

  async #acquireLock (port: number): Promise<void> {
    const socket = new Socket()
    const client = new Client({
      connectionString: urlOf(port, 'postgres', this.#cluster.password),
      stream: () => socket,
      keepAlive: true,
      connectionTimeoutMillis: Math.min(5000, this.#timeoutMs),
      lock_timeout: LOCK_TIMEOUT_MS
    })
    // The promises below, or 'end', report the failure.
    client.on('error', () => {})
    try {
      await client.connect()
      await client.query('SELECT pg_advisory_lock($1)', [LOCK_ID])
      const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [DATABASE])
      if (rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE}`)
    } catch (err) {
      socket.destroy()
      throw err
    }
    this.#isInUseElsewhere = false
    socket.unref()
    client.once('end', () => { if (!this.#stopping.signal.aborted) this.#recovering = this.#recover() })
  }

  /** Returns the message of a transient error. Throws for the others. */
  #describeConnectError (err: unknown): string {
    const code = err instanceof DatabaseError ? err.code : undefined
    this.#isInUseElsewhere = code === '55P03'
    if (this.#isInUseElsewhere) {
      throw new Error(`The data directory ${this.#dataDir} is in use by another running server; ` +
        'stop it or set another DATA_DIR.')
    }
    if (code === '28P01') {
      throw new Error(`The password in ${this.#dataDir}/postgres-password is not the one of the database beside it: ` +
        'restore that file.')
    }
    return String(err)
  }

  async #assertTransient (startedAt: number): Promise<void> {
    const failure = await this.#postmaster.readFailure()
    const isTransient = TRANSIENT_FAILURE.test(failure) && Date.now() - startedAt <= SPAWN_TIMEOUT_MS
    if (!isTransient) throw new Error(`PostgreSQL does not start.\n${failure}`)
  }

  async #recover (): Promise<void> {
    const timer = { ref: false, signal: this.#stopping.signal }
    this.#log?.warn('The embedded PostgreSQL has gone away; bringing it back.')
    for (let pause = 0; !timer.signal.aborted; pause = Math.min(pause + 250, 5000)) {
      try {
        await delay(pause, undefined, timer)
        await this.#bringUp(timer)
        return this.#log?.info('The embedded PostgreSQL is back.')
      } catch (err) {
        if (!timer.signal.aborted) this.#log?.warn(String(err))
      }
    }
  }
}
