import { once } from 'node:events'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t from '../../run/tap.js'
import { connect, waitForDatabase, withConnection } from '../../../src/database/connection.js'
import { ownPostgres } from '../../fixtures/postgres/own-postgres.js'
import { socketProxy } from '../../fixtures/proxies/socket-proxy.js'
import { buildTestApp } from '../../helper.js'
import { start } from '../../cli/run.js'

t.setTimeout(300_000)

const refused = 'postgres://u:p@127.0.0.1:1/x'

/** The error and the reported lines of a wait that fails, and how long it took. */
async function failedWait (url: string, timeoutMs?: number) {
  const lines: string[] = []
  const began = performance.now()
  const report = (line: string) => { lines.push(line) }
  const wait = waitForDatabase(url, timeoutMs === undefined ? { report } : { timeoutMs, report })
  const message = await wait.then(() => 'connected', (err: Error) => err.message)
  return { message, lines, ms: performance.now() - began }
}

await t.test('a wait ends in time with the last error, and reports every 5 seconds', async (t) => {
  const [once, at, short, long] = await Promise.all(
    [undefined, 0, 1000, 6500].map(async (timeoutMs) => await failedWait(refused, timeoutMs))
  )
  const message = /^The database cannot be reached: nothing listens at its host and port \(ECONNREFUSED\)\. Start/
  const line = /^waiting for the database: nothing listens at its host and port/
  t.match(once, { message, lines: [] })
  t.match(at, { message, lines: [] })
  t.match(short, { message, lines: [line] })
  t.match(long, { message, lines: [line, line] })
  t.equal(short?.lines.length, 1)
  t.equal(long?.lines.length, 2)
  t.ok(Number(long?.ms) <= 8000, `${String(long?.ms)} ms`)
})

await t.test('connect_timeout bounds an attempt', async (t) => {
  let attempts = 0
  const silent = createServer((socket) => {
    attempts++
    socket.on('error', () => {})
  }).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => silent.close())
  const address = silent.address()
  const url = `postgres://u:p@127.0.0.1:${typeof address === 'object' ? address?.port : ''}/x?connect_timeout=1`
  const one = await failedWait(url)
  t.match(one.message, /there was no answer within connect_timeout\. See/)
  t.ok(one.ms >= 990 && one.ms < 5000, `${one.ms} ms`)
  t.equal(attempts, 1)
  const several = await failedWait(url, 2500)
  t.ok(several.ms < 5000, `${several.ms} ms`)
  t.ok(attempts >= 3, `${attempts} attempts`)
})

await t.test('a database that starts later is waited for', async (t) => {
  const postgres = await ownPostgres(t)
  await postgres.stop('fast')
  const lines: string[] = []
  const waiting = connect(postgres.url, { timeoutMs: 60_000, report: (line) => { lines.push(line) } })
  const patient = { DATABASE_URL: postgres.url, DATABASE_START_TIMEOUT_MS: '60000' }
  const migrating = start(t, ['src/cli/migrate.ts'], patient)
  const serving = buildTestApp(t, patient)
  await once(migrating.child.stderr, 'data')
  await Promise.all([delay(3000), postgres.start()])
  const client = await waiting
  t.match((await client.query('select 1 as one')).rows, [{ one: 1 }])
  await client.end()
  t.match(lines, [/^waiting for the database: nothing listens/])
  const { app, log } = await serving
  t.match(log(), 'waiting for the database: nothing listens')
  t.equal((await app.inject('/health/ready')).statusCode, 200)
  t.match(await migrating.ended, {
    code: 0, stdout: 'The schema is up to date.\n', stderr: /^waiting for the database: nothing listens/
  })
})

await t.test('a database behind a Unix socket is used, and a missing socket is waited for', async (t) => {
  const postgres = await ownPostgres(t)
  const dir = await socketProxy(t, postgres.url)
  const { username, password } = new URL(postgres.url)
  const viaSocket = (path: string) => `postgres://${username}:${password}@/wtc?host=${path}`
  for (const url of [
    viaSocket(dir), `${viaSocket(dir)}&sslmode=require`,
    `postgres://${username}:${password}@${encodeURIComponent(dir)}/wtc`
  ]) {
    t.equal(await withConnection(url, async () => 'connected'), 'connected')
  }
  const { message, lines } = await failedWait(viaSocket(`${dir}/canary`), 500)
  t.match(message, /no socket in the directory that is its host \(ENOENT\)\. Start .* host= in DATABASE_URL/)
  t.notMatch(message, 'canary')
  t.equal(lines.length, 1)
})
