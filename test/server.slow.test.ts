import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import t from './run/tap.js'
import { startEmbedded } from '../src/database/embedded/embedded.js'
import { isAlive } from '../src/database/embedded/postmaster.js'
import { childEnv, connect, createDatabase, newKey, until, untilWaiting } from './helper.js'
import { modulePath } from './run/paths.js'

// A dozen processes, each of which compiles our sources again.
t.setTimeout(300_000)

const canary = `canary-${randomBytes(8).toString('hex')}`
const secrets = { JWT_SECRET: `${canary}-${'x'.repeat(32)}`, ENCRYPTION_KEYS: `k1:${newKey()}` }
const config = '/api/v1/tenant/config'

/** A new working directory; when the test ends, the PostgreSQL on its `.data` is stopped. */
function workDir (t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'server-'))
  chmodSync(dir, 0o755)
  t.teardown(async () => {
    const files = join(dir, '.data/postgres')
    if (existsSync(files)) {
      await (await startEmbedded(join(dir, '.data'))).stop()
      rmSync(realpathSync(files), { recursive: true })
    }
    rmSync(dir, { recursive: true })
  })
  return dir
}

interface Server {
  child: ChildProcess
  out: () => string
  err: () => string
  /** Waits until it listens and returns its origin; throws when it ends instead. */
  origin: () => Promise<string>
  /** Its exit code and signal. */
  ended: Promise<unknown[]>
}

/** Starts the service in a process of its own. */
function start (t: Test, cwd: string, env: Record<string, string> = {}, nodeArgs: string[] = []): Server {
  const child = spawn(
    process.execPath,
    [...process.execArgv, ...nodeArgs, modulePath('src/server.ts')],
    { cwd, env: childEnv({ PORT: '0', ...env }), stdio: ['ignore', 'pipe', 'pipe'] }
  )
  t.teardown(() => { child.kill('SIGKILL') })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk) => { out += String(chunk) })
  child.stderr.on('data', (chunk) => { err += String(chunk) })
  const ended = once(child, 'close')
  const origin = async () => {
    let found: string | undefined
    await until(() => {
      found = /Server listening at (http:[^"]+)/.exec(out)?.[1]
      return found !== undefined || child.exitCode !== null
    })
    if (found === undefined) throw new Error(`it ended: ${err}`)
    return found
  }
  return { child, out: () => out, err: () => err, origin, ended }
}

/** Waits for the first answer, and reports the milliseconds since `began` (of `performance.now()`). */
async function firstAnswer (t: Test, server: Server, began: number): Promise<string> {
  const origin = await server.origin()
  t.equal((await fetch(`${origin}/health/ready`)).status, 200)
  const ms = Math.round(performance.now() - began)
  t.comment(`first answer after ${ms} ms`)
  // The targets (first start 10 s, restart 3 s) apply to the built service on an idle machine.
  t.ok(ms < 20_000)
  return origin
}

/** The URLs, tokens and commands of the banner. */
function banner (out: string) {
  const found = /(?:Docs +(?<docs>\S+)\n)?Tenant token +(?<tenant>\S+)\nAdmin token +(?<admin>\S+)\n/.exec(out)?.groups ??
    {}
  return {
    docs: found['docs'] ?? '',
    tenant: found['tenant'] ?? '',
    admin: found['admin'] ?? '',
    lines: out.split('\n').filter((line) => line.startsWith('curl '))
  }
}

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } })

/** Asserts that a request that waits for PostgreSQL during the signal is answered before the process ends. */
async function endsGracefully (
  t: Test,
  server: Server,
  databaseUrl: string,
  token: string,
  signal: NodeJS.Signals
): Promise<void> {
  const holder = await connect(t, databaseUrl)
  await holder.query('begin; lock table tenant_configs in access exclusive mode')
  const inFlight = fetch(`${await server.origin()}${config}`, bearer(token))
  await untilWaiting(databaseUrl, 1)
  server.child.kill(signal)
  await until(() => server.out().includes(`closing on ${signal}`))
  // Under npm, Ctrl-C arrives twice.
  server.child.kill(signal)
  await holder.query('rollback')
  const response = await inFlight
  t.equal(response.status, 200, `${signal}: what was under way is answered`)
  t.match(await response.json(), { tenant_id: 'demo-tenant' })
  t.same(await server.ended, [0, null], signal)
  t.equal(server.err(), '')
}

const pidOf = (dir: string) => Number(readFileSync(join(dir, '.data/postgres/postmaster.pid'), 'utf8').split('\n')[0])

/** The URL of the embedded database. */
function embeddedUrl (dir: string): string {
  const port = readFileSync(join(dir, '.data/postgres/postmaster.pid'), 'utf8').split('\n')[3]
  const password = readFileSync(join(dir, '.data/postgres-password'), 'utf8').trim()
  return `postgres://postgres:${password}@127.0.0.1:${port}/whatsapp_tenant_config?sslmode=disable`
}

await t.test('local mode works from the first start to a restart after SIGKILL and a graceful end', async (t) => {
  const [dir, otherDir] = [workDir(t), workDir(t)]
  let began = performance.now()
  const first = start(t, dir)
  const origin = await firstAnswer(t, first, began)
  await until(() => first.out().includes('/stats -H'))
  const { docs, tenant, admin, lines } = banner(first.out())
  t.equal((await fetch(docs)).status, 200)
  t.ok((await fetch(`${docs}/json`)).ok)
  const replies = []
  for (const line of lines) replies.push(JSON.parse((await promisify(execFile)('sh', ['-c', line])).stdout))
  const masked = { tenant_id: 'demo-tenant', user_id: 'demo-user', access_token: '****1234', is_active: true }
  t.match(replies, [masked, masked, { total: 1, active: 1 }], 'the lines work as they are pasted')
  t.equal(replies.length, 3)
  for (const name of ['jwt-secret', 'encryption-keys', 'postgres-password']) {
    const kept = readFileSync(join(dir, '.data', name), 'utf8').trim()
    t.notOk((first.out() + first.err()).includes(kept), `${name} is not shown`)
  }

  const { port } = new URL(origin)
  const [second, squeezed] = [start(t, dir), start(t, otherDir, { PORT: port })]
  t.same(await second.ended, [1, null])
  t.match(second.err(), /^The service did not start: The data directory .* is in use by another running server/)
  t.equal((await fetch(`${origin}${config}`, bearer(tenant))).status, 200, 'the first one is unharmed')
  t.same(await squeezed.ended, [1, null])
  t.equal(
    squeezed.err(),
    `The service did not start: listen EADDRINUSE: address already in use 127.0.0.1:${port}. Stop what listens there, or set PORT to another one.\n`
  )
  t.notOk(existsSync(join(otherDir, '.data/postgres/postmaster.pid')), 'its PostgreSQL is gone')

  const neighbour = start(t, otherDir, { API_DOCS: 'false' })
  const other = await neighbour.origin()
  t.equal((await fetch(`${other}${config}`, bearer(tenant))).status, 401, 'another clone has keys of its own')
  await until(() => neighbour.out().includes('/stats -H'))
  const theirs = banner(neighbour.out())
  t.strictSame([theirs.docs, (await fetch(`${other}/docs`)).status], ['', 404], 'no documents')
  t.match(await (await fetch(`${other}/api/v1/tenant/admin/configs/stats`, bearer(theirs.admin))).json(), { total: 0 })
  await promisify(execFile)('sh', ['-c', theirs.lines[0] ?? ''])

  first.child.kill('SIGKILL')
  await first.ended
  began = performance.now()
  const again = start(t, dir)
  const restarted = await firstAnswer(t, again, began)
  t.match(
    await (await fetch(`${restarted}${config}/full`, bearer(tenant))).json(),
    { access_token: 'EAAG-not-a-real-token-1234' },
    'what was stored is still there'
  )
  t.equal((await fetch(`${restarted}/api/v1/tenant/admin/configs/stats`, bearer(admin))).status, 200)

  const pids = [pidOf(dir), pidOf(otherDir)]
  await endsGracefully(t, again, embeddedUrl(dir), tenant, 'SIGINT')
  await endsGracefully(t, neighbour, embeddedUrl(otherDir), theirs.tenant, 'SIGTERM')
  t.same(pids.map((pid) => isAlive(pid)), [false, false], 'no PostgreSQL is left')
})

// Throws at a chosen moment, in code that runs in the same process.
const beside = (fault: string) => [
  '--import',
  encodeURI(`data:text/javascript,process.once('SIGWINCH', () => { ${fault} })`)
]

/** Asserts that an uncaught error ends the process and that no value is logged. */
async function crashes (t: Test, server: Server): Promise<void> {
  await server.origin()
  server.child.kill('SIGWINCH')
  t.same(await server.ended, [1, null])
  t.match(
    server.out(),
    /"level":60,.*"err":\{"type":"Error","stack":" +at .*"msg":"closing on an error that nobody caught"/
  )
  t.notMatch(server.out() + server.err(), canary)
}

await t.test('a signal during the start ends the process and PostgreSQL; the next start succeeds', async (t) => {
  for (const [signal, moment] of [['SIGTERM', 'encryption-keys'], ['SIGINT', 'postgres/postmaster.pid']] as const) {
    const dir = workDir(t)
    const server = start(t, dir)
    await until(() => existsSync(join(dir, '.data', moment)))
    server.child.kill(signal)
    t.same(await server.ended, [0, null], `${signal} at ${moment}`)
    t.equal(server.err(), '')
    t.notOk(existsSync(join(dir, '.data/postgres/postmaster.pid')), 'its PostgreSQL is gone')
    const again = start(t, dir)
    await again.origin()
    again.child.kill('SIGTERM')
    t.same(await again.ended, [0, null])
  }
})

await t.test('a production start refuses unusable settings, and an uncaught error ends the process', async (t) => {
  const dir = workDir(t)
  const DATABASE_URL = await createDatabase(t)
  const production = { ...secrets, NODE_ENV: 'production', DATABASE_URL, LOG_LEVEL: 'trace', CANARY: canary }

  const refused = start(t, dir, {
    ...production,
    DATABASE_URL: `mysql://u:${canary}@h/x`,
    JWT_SECRET: canary.slice(0, 20),
    ENCRYPTION_KEYS: `k1:${canary}`,
    PORT: canary
  })
  const away = start(t, dir, { ...production, DATABASE_URL: `postgres://u:${canary}@127.0.0.1:1/x` })
  t.same(await refused.ended, [1, null])
  t.match(
    refused.err(),
    /^The service did not start: Some settings cannot be used:\n( {2}(PORT|DATABASE_URL|JWT_SECRET|ENCRYPTION_KEYS) is not usable: .+\n){4}$/
  )
  t.notMatch(refused.out() + refused.err(), canary.slice(0, 20))
  t.same(await away.ended, [1, null])
  t.match(
    away.err(),
    /^The service did not start: The database cannot be reached: connect ECONNREFUSED 127\.0\.0\.1:1\. See that it runs and that DATABASE_URL is right\.\n$/
  )
  t.notMatch(away.out() + away.err(), canary)
  t.notOk(existsSync(join(dir, '.data')))

  const server = start(t, dir, production, beside('throw new Error(process.env.CANARY)'))
  const { port } = new URL(await server.origin())
  t.equal((await fetch(`http://127.0.0.1:${port}/health/ready`)).status, 200)
  // One line for each address: the others may come after the first.
  await until(() => RegExp(`"msg":"Server listening at http://(?!127\\.)[\\d.]+:${port}"`).test(server.out()))
  await crashes(t, server)
  t.notMatch(server.out() + server.err(), /eyJ|curl/, 'no token is shown')
})

await t.test('an unhandled rejection ends the process, and no value is logged', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const fault = 'Promise.reject(Object.assign(new Error(process.env.CANARY), { params: [process.env.CANARY] }))'
  await crashes(t, start(t, workDir(t), { ...secrets, DATABASE_URL, CANARY: canary }, beside(fault)))
})
