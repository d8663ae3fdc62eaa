import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import t from './run/tap.js'
import { isAlive } from '../src/database/embedded/postmaster.js'
import { connect, until, untilWaiting } from './helper.js'
import { start, workDir, type Server } from './started-server.js'

// Each process compiles our sources again.
t.setTimeout(300_000)

const config = '/api/v1/tenant/config'

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
  const pattern = /(?:Docs +(?<docs>\S+)\n)?Tenant token +(?<tenant>\S+)\nAdmin token +(?<admin>\S+)\n/
  const found = pattern.exec(out)?.groups ?? {}
  return {
    docs: found['docs'] ?? '',
    tenant: found['tenant'] ?? '',
    admin: found['admin'] ?? '',
    lines: out.split('\n').filter((line) => line.startsWith('curl '))
  }
}

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } })

/** Asserts that a request that waits for PostgreSQL during the signal is answered before the process ends. */
async function assertGracefulEnd (
  t: Test,
  server: Server,
  databaseUrl: string,
  token: string,
  signal: NodeJS.Signals
): Promise<void> {
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('begin; lock table tenant_configs in access exclusive mode')
  const inFlight = fetch(`${await server.origin()}${config}`, bearer(token))
  await untilWaiting(databaseUrl, 1)
  server.child.kill(signal)
  await until(() => server.out().includes(`closing on ${signal}`))
  // Under npm, Ctrl-C arrives twice.
  server.child.kill(signal)
  await lockHolder.query('rollback')
  const response = await inFlight
  t.equal(response.status, 200, `${signal}: a request in progress is answered`)
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
  t.match(replies, [masked, masked, { total: 1, active: 1 }], 'the printed commands work unchanged')
  t.equal(replies.length, 3)
  for (const name of ['jwt-secret', 'encryption-keys', 'postgres-password']) {
    const kept = readFileSync(join(dir, '.data', name), 'utf8').trim()
    t.notOk((first.out() + first.err()).includes(kept), `${name} is not printed`)
  }

  const { port } = new URL(origin)
  const [second, portInUse] = [start(t, dir), start(t, otherDir, { PORT: port })]
  t.same(await second.ended, [1, null])
  t.match(second.err(), /^The service did not start: The data directory .* is in use by another running server/)
  t.equal((await fetch(`${origin}${config}`, bearer(tenant))).status, 200, 'the first server still answers')
  t.same(await portInUse.ended, [1, null])
  t.equal(
    portInUse.err(),
    `The service did not start: listen EADDRINUSE: address already in use 127.0.0.1:${port}. ` +
      'Stop what listens there, or set PORT to another one.\n'
  )
  t.notOk(existsSync(join(otherDir, '.data/postgres/postmaster.pid')), 'its PostgreSQL has ended')

  const neighbour = start(t, otherDir, { API_DOCS: 'false' })
  const other = await neighbour.origin()
  t.equal((await fetch(`${other}${config}`, bearer(tenant))).status, 401, 'another directory has other keys')
  await until(() => neighbour.out().includes('/stats -H'))
  const theirs = banner(neighbour.out())
  t.strictSame([theirs.docs, (await fetch(`${other}/docs`)).status], ['', 404], 'the documents are not served')
  t.match(await (await fetch(`${other}/api/v1/tenant/admin/configs/stats`, bearer(theirs.admin))).json(), { total: 0 })
  await promisify(execFile)('sh', ['-c', theirs.lines[0] ?? ''])

  first.child.kill('SIGKILL')
  await first.ended
  began = performance.now()
  const restarted = start(t, dir)
  const newOrigin = await firstAnswer(t, restarted, began)
  t.match(
    await (await fetch(`${newOrigin}${config}/full`, bearer(tenant))).json(),
    { access_token: 'EAAG-not-a-real-token-1234' },
    'the stored configuration is kept'
  )
  t.equal((await fetch(`${newOrigin}/api/v1/tenant/admin/configs/stats`, bearer(admin))).status, 200)

  const pids = [pidOf(dir), pidOf(otherDir)]
  await assertGracefulEnd(t, restarted, embeddedUrl(dir), tenant, 'SIGINT')
  await assertGracefulEnd(t, neighbour, embeddedUrl(otherDir), theirs.tenant, 'SIGTERM')
  t.same(pids.map((pid) => isAlive(pid)), [false, false], 'both PostgreSQL have ended')
})

await t.test('a signal during the start ends the process and PostgreSQL; the next start succeeds', async (t) => {
  for (const [signal, moment] of [['SIGTERM', 'encryption-keys'], ['SIGINT', 'postgres/postmaster.pid']] as const) {
    const dir = workDir(t)
    const server = start(t, dir)
    await until(() => existsSync(join(dir, '.data', moment)))
    server.child.kill(signal)
    t.same(await server.ended, [0, null], `${signal} at ${moment}`)
    t.equal(server.err(), '')
    t.notOk(existsSync(join(dir, '.data/postgres/postmaster.pid')), 'its PostgreSQL has ended')
    const restarted = start(t, dir)
    await restarted.origin()
    restarted.child.kill('SIGTERM')
    t.same(await restarted.ended, [0, null])
  }
})
