import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { startEmbedded } from '../../../src/database/embedded/embedded.js'
import { migrate } from '../../../src/database/migrations/migrations.js'
import { QUIET } from '../../cluster/where.js'
import { query } from '../../helper.js'
import { postgresCpu, postmasterOf } from '../measure/postgres-cpu.js'
import { temporaryDir } from './temporary.js'

/** The PostgreSQL of all measurements. */
export interface Server {
  version: string
  /** CPU time of all its processes so far, in microseconds; NaN if unknown. */
  cpu: () => number
  /** Creates a database with our schema, in which the scheduler finds no due token; returns its URL. */
  database: () => Promise<string>
  /** Drops these databases; for a server started here, stops it and deletes its files instead. */
  close: () => Promise<void>
}

/** The server of TEST_DATABASE_URL, or an embedded one in a new directory. */
export async function startServer (): Promise<Server> {
  const given = process.env['TEST_DATABASE_URL']
  const names: string[] = []
  const drop = async (url: string) => {
    for (const name of names) {
      await query(url, `drop database if exists ${name} with (force)`)
    }
  }
  const { url, close } = given === undefined
    ? await embeddedServer()
    : {
        url: given,
        close: async () => { await drop(given) }
      }
  const { version, postmaster } = await identify(url)
  return {
    version,
    cpu: () => postgresCpu(postmaster),
    async database () {
      const name = `wtc_bench_${randomBytes(8).toString('hex')}`
      names.push(name)
      await query(url, `create database ${name}`)
      const own = new URL(url)
      own.pathname = `/${name}`
      await migrate(own.href)
      await query(own.href, QUIET)
      return own.href
    },
    close
  }
}

/** An embedded server in a temporary directory. */
export async function embeddedServer (): Promise<{ url: string, close: () => Promise<void> }> {
  const { dir, remove } = await temporaryDir()
  const database = await startEmbedded(dir)
  return {
    url: database.url,
    async close () {
      await database.stop()
      await remove()
    }
  }
}

/** The version of a server, and the process id of its postmaster: NaN if it runs on another machine. */
export async function identify (url: string): Promise<{ version: string, postmaster: number }> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const { rows: [session] } = await client.query<{ version: string, pid: number }>(
    "select current_setting('server_version') as version, pg_backend_pid() as pid"
  )
  // Before the connection ends, and its backend with it.
  const postmaster = postmasterOf(session?.pid ?? NaN)
  await client.end()
  return { version: session?.version ?? '', postmaster }
}
