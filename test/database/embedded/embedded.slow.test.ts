import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from '../../run/tap.js'
import { startEmbedded } from '../../../src/database/embedded/embedded.js'
import { isAlive } from '../../../src/database/embedded/postmaster.js'
import { ensureSystemUser } from '../../../src/database/embedded/system-user.js'
import {
  dataDir, pidOf, portOf, logOf, query, isReachable, killAll, starter, started, isRoot, parallel, parallelTests
} from '../../fixtures/embedded.js'
import { until } from '../../without-database.js'

parallel('a server adopts the PostgreSQL of a killed server', async t => {
  const dir = dataDir(t)
  const { child, url } = starter(t, dir)
  await query(await url, "CREATE TABLE kept AS SELECT 'value' AS text")
  const pid = pidOf(dir)
  child.kill('SIGKILL')
  const began = performance.now()
  const database = await started(t, dir)
  t.comment(`adoption: ${Math.round(performance.now() - began)} ms`)
  t.equal(database.url, await url)
  t.equal(pidOf(dir), pid, 'the postmaster did not change')
  t.same(await query(database.url, 'TABLE kept'), ['value'])
  await database.stop()
  t.notOk(isAlive(pid), 'an adopted PostgreSQL is stopped too')
})

parallel('neither PostgreSQL nor the lock keeps the process running', async t => {
  const { child, url } = starter(t, dataDir(t), 'exit')
  await url
  t.same(await once(child, 'exit'), [0, null])
})

parallel('a data directory in use is refused, and its server is not affected', async t => {
  const dir = dataDir(t)
  const database = await started(t, dir)
  const pid = pidOf(dir)
  await t.rejects(
    startEmbedded(dir),
    { message: `The data directory ${dir} is in use by another running server; stop it or set another DATA_DIR.` }
  )
  t.equal(pidOf(dir), pid)
  t.ok(await isReachable(database.url))
})

parallel('one of two concurrent starts in a fresh directory succeeds', async t => {
  for (const mode of isRoot ? [0o755, 0o700] : [0o755]) {
    const dir = dataDir(t, { mode })
    const both = [starter(t, dir), starter(t, dir)]
    const { loser, url } = await Promise.race(both.map(async ({ child }, i) => {
      await once(child, 'exit')
      return { loser: both[i], url: await both[1 - i]?.url }
    }))
    t.match(await loser?.error, /is in use by another running server/)
    t.ok(await isReachable(String(url)))
    t.same(readdirSync(dir).sort(), ['postgres', 'postgres-password', 'postgres.log'], 'no leftovers remain')
    for (const { child } of both) child.kill('SIGKILL')
  }
})

parallel('a start succeeds after kill -9 during the creation of the files', async t => {
  const dir = dataDir(t)
  const { child } = starter(t, dir)
  await until(() => existsSync(dir) && readdirSync(dir).some(name => existsSync(join(dir, name, 'data/global'))))
  child.kill('SIGKILL')
  await once(child, 'exit')
  t.ok(readdirSync(dir).some(name => name.startsWith('postgres.new-')))
  const database = await started(t, dir)
  t.ok(await isReachable(database.url))
  t.same(readdirSync(dir).filter(name => name.includes('.new-')), [])
})

parallel('a start ignores the postmaster.pid of a dead or foreign process', async t => {
  const dir = dataDir(t)
  const account = isRoot ? ensureSystemUser() : {}
  const run = (script: string) => {
    const child = spawn('sh', ['-c', script], { ...account, cwd: '/', stdio: ['ignore', 'pipe', 'ignore'] })
    t.teardown(() => { child.kill('SIGKILL') })
    return child
  }
  const foreign = run('echo; exec sleep 100')
  await once(foreign.stdout, 'data')
  const parent = run('sleep 0.3 & echo $!; exec sleep 100')
  const [zombie] = await once(parent.stdout, 'data')
  await until(() => /\) Z/.test(readFileSync(`/proc/${Number(zombie)}/stat`, 'utf8')))
  const dead = run('true')
  await once(dead, 'exit')

  for (const [what, pid] of [['foreign', foreign.pid], ['zombie', Number(zombie)], ['dead', dead.pid]] as const) {
    const { child, url } = starter(t, dir)
    await query(await url, 'CREATE TABLE IF NOT EXISTS kept ()')
    child.kill('SIGKILL')
    await once(child, 'exit')
    killAll(pidOf(dir))
    const file = join(dir, 'postgres/postmaster.pid')
    writeFileSync(file, readFileSync(file, 'utf8').replace(/^\d+/, String(pid)))
    const database = await startEmbedded(dir)
    t.same(await query(database.url, 'TABLE kept'), [], what)
    t.equal(database.url, await url, 'PostgreSQL uses its former port')
    await database.stop()
  }
  t.ok(isAlive(Number(foreign.pid)), 'a foreign process is not stopped')
})

parallel('a start chooses another port when its port is in use', async t => {
  const dir = dataDir(t)
  const { child, url } = starter(t, dir)
  const port = portOf(await url)
  child.kill('SIGKILL')
  await once(child, 'exit')
  const killed = killAll(pidOf(dir))
  await until(() => !killed.some(pid => isAlive(pid)))
  const squatter = createServer().listen(port, '127.0.0.1')
  await once(squatter, 'listening')
  t.teardown(() => { squatter.close() })
  const database = await started(t, dir)
  t.not(portOf(database.url), port)
  t.ok(await isReachable(database.url))
})

await parallelTests()

await t.test('an embedded database keeps its data over a restart and leaks no secret', async t => {
  const dir = dataDir(t)
  const first = await startEmbedded(dir)
  t.match(first.url, /^postgres:\/\/postgres:[\w-]{32}@127\.0\.0\.1:\d+\/whatsapp_tenant_config\?/)
  await query(first.url, "CREATE TABLE kept AS SELECT 'value' AS text")
  t.same(await query(first.url, 'SHOW server_encoding'), ['UTF8'])
  t.same(await query(first.url, 'SHOW listen_addresses'), ['127.0.0.1'])
  t.same(await query(first.url, 'SHOW unix_socket_directories'), [''])

  const { password } = new URL(first.url)
  await t.rejects(
    query(first.url.replace(password, 'wrong'), 'SELECT 1'),
    { code: '28P01' },
    'PostgreSQL demands the password'
  )
  await t.rejects(query(first.url, "SELECT 'hunter2'::int"), { code: '22P02' })
  t.notMatch(logOf(dir), /hunter2/, 'the log has no value')
  t.notOk(logOf(dir).includes(password))
  t.notOk(
    execFileSync('ps', ['axo', 'args'], { encoding: 'utf8' }).includes(password),
    'no command line has the password'
  )
  t.equal(lstatSync(join(dir, 'postgres-password')).mode & 0o777, 0o600)

  const pid = pidOf(dir)
  t.equal(
    execFileSync('ps', ['-o', 'pgid=', '-p', String(pid)], { encoding: 'utf8' }).trim(),
    String(pid),
    'PostgreSQL has its own process group, which Ctrl-C does not reach'
  )
  t.equal(first.stop(), first.stop(), 'a second stop() returns the first promise')
  await first.stop()
  t.notOk(isAlive(pid))
  t.notOk(existsSync(join(dir, 'postgres/postmaster.pid')), 'PostgreSQL was shut down, not killed')

  const began = performance.now()
  const second = await started(t, dir)
  t.comment(`restart: ${Math.round(performance.now() - began)} ms`)
  t.same(await query(second.url, 'TABLE kept'), ['value'])
})
