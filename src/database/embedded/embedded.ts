import { Socket } from 'node:net'
import type { TimerOptions } from 'node:timers'
import { setTimeout as delay } from 'node:timers/promises'
import { Client, DatabaseError } from 'pg'
import { ensureDataDir } from '../../settings/data-dir.js'
import { ensureCluster, SUPERUSER, type Cluster } from './cluster.js'
import { freePort } from './free-port.js'
import { Postmaster, POLL_MS } from './postmaster.js'

const DATABASE = 'whatsapp_tenant_config'
const LOCK_ID = 818_110_818
/** Milliseconds: how long the lock of a server that was killed may take to fall. */
const LOCK_TIMEOUT_MS = 2000
/** Milliseconds: how long orphaned backends, or another start, may stand in the way. */
const SPAWN_TIMEOUT_MS = 10_000
const TRANSIENT_FAILURE = /already exists|still in use|Address already in use/

/** A PostgreSQL of this process's own, brought back whenever it dies, until it is stopped. */
export interface EmbeddedDatabase {
  /** Connection string, with the password; stays valid for as long as this runs. */
  url: string
  /** Stops PostgreSQL; resolves when it is gone. */
  stop (): Promise<void>
}

/** Pino-like: `info` is told of steps and returns, `warn` of what went wrong and is being tried again. */
export interface EmbeddedLog {
  info (message: string): void
  warn (message: string): void
}

/**
 * Runs PostgreSQL on the data directory: makes its files, or adopts what an earlier process left running, and restarts
 * it whenever it dies. One process at a time may do so; it holds a lock inside the database, which dies with it.
 *
 * @param dataDir the setting DATA_DIR
 * @param log told of restarts; never of the password
 * @param timeoutMs milliseconds in which PostgreSQL must be ready, crash recovery included
 * @returns the running database
 * @throws when another process uses the data directory (which is left in peace), or PostgreSQL does not get ready
 */
export async function startEmbedded (dataDir: string, log?: EmbeddedLog, timeoutMs = 60_000): Promise<EmbeddedDatabase> {
  const dir = await ensureDataDir(dataDir)
  const cluster = await ensureCluster(dir, message => log?.info(message))
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
    return this.#urlOf(this.#port, DATABASE)
  }

  #urlOf (port: number | undefined, database: string): string {
    // Else a PGSSLMODE in the environment, meant for another server, would apply.
    return `postgres://${SUPERUSER}:${encodeURIComponent(this.#cluster.password)}@127.0.0.1:${port}/${database}?sslmode=disable`
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

  // The lock is held until PostgreSQL itself drops it: nobody can adopt a server that is about to go.
  async #shutDown (): Promise<void> {
    this.#stopping.abort()
    await this.#recovering
    if (!this.#isInUseElsewhere) await this.#postmaster.stop()
  }

  async #bringUp (timer: TimerOptions): Promise<void> {
    const began = Date.now()
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
          await this.#assertTransient(began)
          await delay(100, undefined, timer)
        }
        hasStarted = true
        // The port of a postmaster that died is the one its clients know. PostgreSQL removes a file whose port it cannot have.
        await this.#postmaster.start(this.#port ?? (file?.port || await freePort()), file?.pid)
      }
      if (Date.now() - began > this.#timeoutMs) {
        throw new Error(`PostgreSQL was not ready within ${this.#timeoutMs} ms. ${lastFault}\n${await this.#postmaster.readFailure()}`)
      }
      await delay(POLL_MS, undefined, timer)
    }
  }

  async #acquireLock (port: number): Promise<void> {
    const socket = new Socket()
    const client = new Client({
      connectionString: this.#urlOf(port, 'postgres'),
      stream: () => socket,
      keepAlive: true,
      connectionTimeoutMillis: Math.min(5000, this.#timeoutMs),
      lock_timeout: LOCK_TIMEOUT_MS
    })
    // What went wrong is told by the promises below, or by 'end'.
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

  /** @returns what to tell of an error that may pass */
  #describeConnectError (err: unknown): string {
    const code = err instanceof DatabaseError ? err.code : undefined
    this.#isInUseElsewhere = code === '55P03'
    if (this.#isInUseElsewhere) {
      throw new Error(`The data directory ${this.#dataDir} is in use by another running server; stop it or set another DATA_DIR.`)
    }
    if (code === '28P01') {
      throw new Error(`The password in ${this.#dataDir}/postgres-password is not the one of the database beside it: restore that file.`)
    }
    return String(err)
  }

  async #assertTransient (began: number): Promise<void> {
    const failure = await this.#postmaster.readFailure()
    if (!TRANSIENT_FAILURE.test(failure) || Date.now() - began > SPAWN_TIMEOUT_MS) throw new Error(`PostgreSQL does not start.\n${failure}`)
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
