import { once } from 'node:events'
import { connect as connectTo, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { serviceRole } from '../fixtures/service-role.js'
import { stallingProxy } from '../fixtures/proxies/stalling-proxy.js'
import { buildTestApp, connect, createDatabase, query, makeUnreachable, until } from '../helper.js'

const others = 'select count(*)::int as count from pg_stat_activity where datname = current_database() and pid <> ' +
  'pg_backend_pid()'
const connections = async (url: string) => (await query(url, others))[0]?.['count']

await t.test('a successful probe leaves no connection behind', async (t) => {
  const { app, databaseUrl } = await buildTestApp(t, { DATABASE_POOL_MAX: 1 })
  const { probe } = app.database
  await app.database.ping()
  const before = await connections(databaseUrl)
  for (let times = 0; times < 5; times++) await t.resolves(probe())
  await until(async () => await connections(databaseUrl) === before)
  t.equal(app.pg['tenantConfig']?.pool.totalCount, 1)

  const client = await app.pg['tenantConfig']?.pool.connect()
  await t.resolves(probe(), 'a busy pool does not fail the probe')
  client?.release()
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('begin; lock table tenant_configs in access exclusive mode')
  await t.resolves(probe(), 'a lock does not fail the probe')
})

await t.test('a probe fails while the database is missing', async (t) => {
  const { app, databaseUrl } = await buildTestApp(t)
  const restore = await makeUnreachable(databaseUrl)
  await t.rejects(app.database.probe(), { code: '3D000' })
  await restore()
  await t.resolves(app.database.probe())
})

await t.test('a probe fails on a cut connection, and times out on a dead one', async (t) => {
  const proxy = await stallingProxy(t, await createDatabase(t))
  const { app } = await buildTestApp(t, { DATABASE_URL: proxy.url })
  proxy.cut()
  await t.rejects(app.database.probe())
  proxy.mend()
  await t.resolves(app.database.probe())
  proxy.stall()
  const begun = performance.now()
  await t.rejects(app.database.probe(), /timeout/)
  t.ok(performance.now() - begun < 3300, 'the probe times out after 2.3 s')
  proxy.mend()
  await t.resolves(app.database.probe())
})

await t.test('a probe succeeds at the connection limit and fails with a wrong password', async (t) => {
  const databaseUrl = await createDatabase(t)
  const { role, url } = await serviceRole(t, databaseUrl, 'one')
  const { app } = await buildTestApp(t, { DATABASE_URL: url })
  await query(databaseUrl, `alter role ${role} connection limit 1`)
  await t.resolves(app.database.probe(), 'the refusal shows that the database runs')
  await query(databaseUrl, `alter role ${role} connection limit -1 password 'other'`)
  await t.rejects(app.database.probe(), { code: '28P01' })
})

/**
 * A proxy to PostgreSQL. Once `isSilent`, it accepts a login and then sends nothing, not even at the end of the
 * connection.
 */
async function silentProxy (t: Test, target: string) {
  const url = new URL(target)
  const { hostname, port } = url
  const sockets = new Set<Socket>()
  const proxy = { url: '', isSilent: false }
  const server = createServer({ allowHalfOpen: true }, (near) => {
    sockets.add(near.on('error', () => {}))
    if (proxy.isSilent) {
      near.once('data', () => near.write('R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I', 'latin1')).resume()
      return
    }
    const far = connectTo(Number(port), hostname).on('error', () => {})
    sockets.add(far)
    near.pipe(far).pipe(near)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const address = server.address()
  url.port = String(typeof address === 'object' ? address?.port : '')
  proxy.url = url.href
  return proxy
}

await t.test('a connection that goes dead after the login does not delay the probe', async (t) => {
  const proxy = await silentProxy(t, await createDatabase(t))
  const { app } = await buildTestApp(t, { DATABASE_URL: proxy.url })
  proxy.isSilent = true
  const begun = performance.now()
  await t.resolves(app.database.probe())
  t.ok(performance.now() - begun < 1000)
  proxy.isSilent = false
})
