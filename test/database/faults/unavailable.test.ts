import t from '../../run/tap.js'
import { serviceRole } from '../../fixtures/service-role.js'
import {
  aboutConnections, buildTestApp, connect, createDatabase, query, makeUnreachable, untilWaiting
} from '../../helper.js'
import { assertFailed, canary, get, post } from './canary-requests.js'
import { LOCK, loseConnections } from './connections.js'

await t.test('a missing database causes DATABASE_UNAVAILABLE, and the service is not ready', async (t) => {
  const service = await buildTestApp(t)
  const restore = await makeUnreachable(service.databaseUrl)
  assertFailed(t, service, await post(service, 'acme'), 'DATABASE_UNAVAILABLE')
  t.match(await service.app.inject('/health/ready'), { statusCode: 503 })
  t.match(await service.app.inject('/health/live'), { statusCode: 200 })
  await restore()
  t.match(await service.app.inject('/health/ready'), { statusCode: 200 })
})

await t.test('a read-only database refuses writes and serves reads', aboutConnections, async (t) => {
  const service = await buildTestApp(t)
  const elsewhere = new URL(service.databaseUrl)
  const name = elsewhere.pathname.slice(1)
  elsewhere.pathname = '/postgres'
  const setReadOnly = async (value: string) => {
    await query(elsewhere.href, `alter database ${name} set default_transaction_read_only = ${value}`)
    await loseConnections(service, service.databaseUrl)
  }
  await setReadOnly('on')
  assertFailed(t, service, await post(service, 'acme'), 'DATABASE_UNAVAILABLE')
  t.match(service.log(), '25006')
  t.equal((await get(service)).statusCode, 404)
  await setReadOnly('off')
  t.equal((await post(service, 'acme')).statusCode, 201)
})

await t.test('a connection limit or a wrong password causes DATABASE_UNAVAILABLE', async (t) => {
  const databaseUrl = await createDatabase(t)
  const { role, url: asRole } = await serviceRole(t, databaseUrl, canary)
  const service = await buildTestApp(t, { DATABASE_URL: asRole })
  await query(databaseUrl, `alter role ${role} connection limit 2`)
  // The start left more connections in the pool than the limit.
  await loseConnections(service, databaseUrl)

  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query(LOCK)
  const first = post(service, 'acme')
  await untilWaiting(databaseUrl, 1)
  assertFailed(t, service, await get(service), 'DATABASE_UNAVAILABLE')
  t.match(service.log(), '53300', 'too many connections')
  await lockHolder.query('rollback')
  t.equal((await first).statusCode, 201)

  await query(databaseUrl, `alter role ${role} password 'another'`)
  await loseConnections(service, databaseUrl)
  assertFailed(t, service, await get(service), 'DATABASE_UNAVAILABLE')
  t.match(service.log(), '28P01', 'wrong password')
  await query(databaseUrl, `alter role ${role} password '${canary}'`)
  t.equal((await get(service)).statusCode, 200)
})
