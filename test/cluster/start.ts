import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { ensureDataDir } from '../../src/settings/data-dir.js'
import { startEmbedded } from '../../src/database/embedded/embedded.js'
import { migrate } from '../../src/database/migrations/migrations.js'
import { CLUSTER_DIR, QUIET, TEMPLATE, URL_FILE } from './where.js'

// One PostgreSQL for all tests: that of TEST_DATABASE_URL, or an embedded one that keeps running until stop.ts.
const dir = await ensureDataDir(CLUSTER_DIR)
const given = process.env['TEST_DATABASE_URL']
const url = given ?? await startWithMoreConnections()
await writeFile(join(dir, URL_FILE), url, { mode: 0o600 })

const admin = new pg.Client({ connectionString: url })
await admin.connect()
if (given === undefined) {
  // Tests create hundreds of databases and connections. Waiting for the disk and 4096 hashes of the password would be
  // most of that time. No data must survive the run.
  for (const name of [
    'fsync', 'full_page_writes', 'synchronous_commit'
  ]) await admin.query(`alter system set ${name} = off`)
  await admin.query('select pg_reload_conf()')
  await admin.query('set scram_iterations = 1')
  await admin.query(`alter role current_user password '${new URL(url).password}'`)
}
await admin.query(`drop database if exists ${TEMPLATE}`)
await admin.query(`create database ${TEMPLATE}`)
await admin.end()
const template = new URL(url)
template.pathname = `/${TEMPLATE}`
await migrate(template.href)
const quiet = new pg.Client({ connectionString: template.href })
await quiet.connect()
await quiet.query(QUIET)
await quiet.end()
process.exit(0)

/** Starts the embedded PostgreSQL twice, since the setting needs a start: each process runs several services. */
async function startWithMoreConnections (): Promise<string> {
  const first = await startEmbedded(dir)
  const client = new pg.Client({ connectionString: first.url })
  await client.connect()
  await client.query('alter system set max_connections = 200')
  await client.end()
  await first.stop()
  return (await startEmbedded(dir)).url
}
