import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectTo, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { line } from '../fixtures/line.js'
import { buildTestApp, connect, createDatabase, query, takeAway, until } from '../helper.js'

const others = 'select count(*)::int as count from pg_stat_activity where datname = current_database() and pid <> ' +
  'pg_backend_pid()'
const connections = async (url: string) => (await query(url, others))[0]?.['count']

await t.test('one who is let in leaves nothing behind', async (t) => {
  const { app, databaseUrl } = await buildTestApp(t, { DATABASE_POOL_MAX: 1 })
  const { probe } = app.database
  await app.database.ping()
  const before = await connections(databaseUrl)
  for (let times = 0; times < 5; times++) await t.resolves(probe())
  await until(async () => await connections(databaseUrl) === before)
  t.equal(app.pg['tenantConfig']?.pool.totalCount, 1)

  const client = await app.pg['tenantConfig']?.pool.connect()
  await t.resolves(probe(), 'a pool that is busy is no reason')
  client?.release()
  const holder = await connect(t, databaseUrl)
  await holder.query('begin; lock table tenant_configs in access exclusive mode')
  await t.resolves(probe(), 'nor is a lock')
})

await t.test('a database that is away lets nobody in', async (t) => {
  const { app, databaseUrl } = await buildTestApp(t)
  const giveBack = await takeAway(databaseUrl)
  await t.rejects(app.database.probe(), { code: '3D000' })
  await giveBack()
  await t.resolves(app.database.probe())
})

await t.test('a line that is cut, or dead', async (t) => {
  const way = await line(t, await createDatabase(t))
  const { app } = await buildTestApp(t, { DATABASE_URL: way.url })
  way.cut()
  await t.rejects(app.database.probe())
  way.mend()
  await t.resolves(app.database.probe())
  way.die()
  const begun = performance.now()
  await t.rejects(app.database.probe(), /timeout/)
  t.ok(performance.now() - begun < 2500, 'given up after 1.5 s')
  way.mend()
  await t.resolves(app.database.probe())
})

await t.test('too many connections, and a password that is wrong', async (t) => {
  const databaseUrl = await createDatabase(t)
  const role = `wtc_test_${randomBytes(8).toString('hex')}`
  await query(databaseUrl, `create role ${role} login password 'one'; grant all on all tables in schema public to ${role};
    grant usage on schema drizzle to ${role}; grant select on all tables in schema drizzle to ${role}`)
  t.teardown(async () => await query(databaseUrl, `drop owned by ${role}; drop role ${role}`))
  const { app } = await buildTestApp(
    t,
    { DATABASE_URL: Object.assign(new URL(databaseUrl), { username: role, password: 'one' }).href }
  )
  await query(databaseUrl, `alter role ${role} connection limit 1`)
  await t.resolves(app.database.probe(), 'it is there, and says that it has too many')
  await query(databaseUrl, `alter role ${role} connection limit -1 password 'other'`)
  await t.rejects(app.database.probe(), { code: '28P01' })
})

/**
 * A way to a PostgreSQL; once `isSilent`, whoever comes is let in, and then hears nothing any more, not even that his
 * goodbye was heard.
 */
async function silentDoor (t: Test, target: string) {
  const url = new URL(target)
  const { hostname, port } = url
  const sockets = new Set<Socket>()
  const door = { url: '', isSilent: false }
  const server = createServer({ allowHalfOpen: true }, (near) => {
    sockets.add(near.on('error', () => {}))
    if (door.isSilent) {
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
  door.url = url.href
  return door
}

await t.test('a line that dies right after one was let in keeps nobody waiting', async (t) => {
  const door = await silentDoor(t, await createDatabase(t))
  const { app } = await buildTestApp(t, { DATABASE_URL: door.url })
  door.isSilent = true
  const begun = performance.now()
  await t.resolves(app.database.probe())
  t.ok(performance.now() - begun < 1000)
  door.isSilent = false
})
