import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { inspect } from 'node:util'
import { sql } from 'drizzle-orm'
import t from '../../run/tap.js'
import { assertReachable, withConnection } from '../../../src/database/connection.js'
import { migrate } from '../../../src/database/migrations/migrations.js'
import { buildTestApp, createDatabase, query } from '../../helper.js'
import { canary } from './canary-requests.js'

await t.test('a start without a database fails, and its error shows no password', async (t) => {
  /** The errors of a start and a migration at a server that sends these bytes and then nothing. */
  async function errorsWith (answer: string, parameters = ''): Promise<string[]> {
    const silent = createServer(
      (socket) => socket.on('error', () => {}).once('data', () => socket.write(answer, 'latin1'))
    ).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    t.teardown(() => silent.close())
    const address = silent.address()
    const port = typeof address === 'object' ? address?.port : ''
    return await startAndMigrate(`postgres://${canary}-u:${canary}@127.0.0.1:${port}/${canary}${parameters}`)
  }
  async function startAndMigrate (DATABASE_URL: string): Promise<string[]> {
    const both = await Promise.allSettled([buildTestApp(t, { DATABASE_URL }), migrate(DATABASE_URL)])
    return both.map((outcome) => outcome.status === 'rejected' ? inspect(outcome.reason, { depth: 9 }) : 'it started')
  }
  const tried = {
    'no answer within connect_timeout': await Promise.all([
      errorsWith(''), errorsWith('S', '?sslmode=verify-full'), errorsWith('R\0\0\0\x08\0\0\0\0')
    ]),
    ECONNREFUSED: [await startAndMigrate(`postgres://${canary}-u:${canary}@127.0.0.1:1/${canary}`)],
    '3D000': [await startAndMigrate(Object.assign(new URL(await createDatabase(t)), { pathname: `/${canary}` }).href)]
  }
  for (const [reason, messages] of Object.entries(tried)) {
    for (const message of messages.flat()) {
      t.match(message, RegExp(`^Error: The database cannot be reached: .*${reason}.* DATABASE_URL.*\\.\n`))
      t.notMatch(message, canary)
    }
  }
})

await t.test('if both addresses of a host fail, the error names the first one', async (t) => {
  const message = 'The database cannot be reached: nothing listens at its host and port (ECONNREFUSED). ' +
    'Start PostgreSQL, or correct host and port in DATABASE_DIRECT_URL.'
  const both = ['::1:1', '127.0.0.1:1'].map(
    (address) => Object.assign(new Error(`connect ECONNREFUSED ${address}`), { code: 'ECONNREFUSED' })
  )
  const refused = assertReachable(Promise.reject(new AggregateError(both)), 'DATABASE_DIRECT_URL')
  await t.rejects(refused, new Error(message))
})

await t.test('a URL with a raw % in its password and with options connects', async (t) => {
  const databaseUrl = await createDatabase(t)
  const database = new URL(databaseUrl).pathname.slice(1)
  const role = `wtc_test_${randomBytes(8).toString('hex')}`
  await query(
    databaseUrl,
    `create role ${role} login password '100%é /'; grant connect on database ${database} to ${role}`
  )
  t.teardown(async () => await query(databaseUrl, `drop owned by ${role}; drop role ${role}`))
  const url = databaseUrl.replace(
    /\/\/[^@]+@/,
    `//${role}:100%é%20%2F@`
  ) + `${databaseUrl.includes('?') ? '&' : '?'}options=-c%20work_mem%3D1234kB`
  t.match(
    await withConnection(url, async (db) => await db.execute(sql`show work_mem`)),
    { rows: [{ work_mem: '1234kB' }] }
  )
})

await t.test('the loss of a separate connection fails its next statement', async (t) => {
  const url = await createDatabase(t)
  const lost = withConnection(url, async (db) => {
    const { rows: [session] } = await db.execute<{ pid: number }>(sql`select pg_backend_pid() as pid`)
    await query(url, 'select pg_terminate_backend($1, 10000)', [session?.pid])
    await db.execute(sql`select 1`)
  })
  await t.rejects(lost)
})
