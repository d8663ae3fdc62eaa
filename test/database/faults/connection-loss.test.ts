import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createConnection, createServer, type Socket } from 'node:net'
import { inspect } from 'node:util'
import { sql } from 'drizzle-orm'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { assertReachable, withConnection } from '../../../src/database/connection.js'
import { migrate } from '../../../src/database/migrations/migrations.js'
import { buildTestApp, connect, createDatabase, query, takeAway, until, untilWaiting, type TestApp } from '../../helper.js'

const canary = `canary-${randomBytes(8).toString('hex')}`
const url = '/api/v1/tenant/config'
const secrets = {
  access_token: `${canary}-token`,
  fb_app_secret: `${canary}-app`,
  verify_token: `${canary}-verify`,
  refresh_token: `${canary}-refresh`
}

/** POSTs a configuration full of canaries. */
const post = async ({ app, as }: TestApp, tenant: string, more: object = {}) =>
  await app.inject({ method: 'POST', url, headers: as(tenant), payload: { ...secrets, ...more } })

/** Asserts the code of a response, and that neither it nor the log has a canary. */
function answered (
  t: Test,
  { log }: TestApp,
  response: { json: () => { code?: string }, body: string },
  code: string,
  what = code
): void {
  t.equal(response.json().code, code, what)
  t.notMatch(response.body, canary, `${what}: response`)
  t.notOk(log().includes(canary), `${what}: log`)
}

const get = async ({ app, as }: TestApp) => await app.inject({ url, headers: as('acme') })

const lock = 'begin; lock table tenant_configs in access exclusive mode'
const terminateAll = 'select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = ' +
  "current_database() and application_name = 'whatsapp-tenant-config'"

/** Ends all connections of the service, and waits until its pool is empty. */
async function loseConnections ({ app }: TestApp, databaseUrl: string): Promise<void> {
  await query(databaseUrl, terminateAll)
  await until(() => app.pg['tenantConfig']?.pool.totalCount === 0)
}

await t.test('an error of PostgreSQL shows no value', async (t) => {
  const service = await buildTestApp(t)
  const { app, databaseUrl, log } = service
  t.equal((await post(service, 'acme')).statusCode, 201)
  answered(t, service, await post(service, 'acme'), 'CONFIG_EXISTS')

  // Unexpected faults: PostgreSQL quotes the row, and a trigger can quote anything.
  await query(databaseUrl, "alter table tenant_configs add constraint never check (waba_id <> 'refused')")
  answered(t, service, await post(service, 'third', { waba_id: 'refused' }), 'INTERNAL')
  t.match(log(), '"constraint":"never"', 'the log says what it was')
  await query(databaseUrl, `create function quote_it() returns trigger language plpgsql as $$ begin raise exception '${canary} %', new; end $$;
    create trigger quote_it before insert on tenant_configs for each row execute function quote_it()`)
  answered(t, service, await post(service, 'fourth', { waba_id: canary }), 'INTERNAL')
  t.match(log(), '"code":"P0001"')
  const direct = await app.database.run(sql`select ${canary}::int`).catch((err: unknown) => err)
  t.match(direct, { code: 'VALIDATION_FAILED' })
  t.notMatch(String(direct), canary)
})

await t.test('each SQLSTATE maps to its error', async (t) => {
  const { app: { database } } = await buildTestApp(t)
  const raise = async (code: string, more = '') => await database.run(
    sql.raw(`do $$ begin raise exception '${canary}' using errcode = '${code}'${more}; end $$`)
  )
  const away = [
    '08006', '53000', '53100', '53200', '53300', '57014', '57P01', '57P03', '28000', '28P01', '3D000', '40001', '40P01',
    '25006', '55P03'
  ]
  for (const code of away) await t.rejects(raise(code), { code: 'DATABASE_UNAVAILABLE', cause: { code } }, code)
  for (const code of [
    '22001', '22003', '22021', '22P02', '22P05'
  ]) await t.rejects(raise(code), { code: 'VALIDATION_FAILED', cause: undefined }, code)
  await t.rejects(
    raise('23505', ", constraint = 'verified_identities_phone_number_id_key'"),
    { code: 'PHONE_NUMBER_TAKEN' }
  )
  for (const code of [
    '23502', '23505', '23514', '42P01', '42501', 'P0001', 'XX000'
  ]) await t.rejects(raise(code), { code }, `${code} is our own fault`)
  const ours = new TypeError('not from the database')
  await t.rejects(database.transaction(async () => { throw ours }), ours)
})

await t.test('the loss of all connections causes no crash, and the next request succeeds', async (t) => {
  const service = await buildTestApp(t)
  const { app, log, databaseUrl } = service
  const requests = await Promise.all(Array.from({ length: 5 }, async () => await app.inject('/health/ready')))
  t.match(requests, Array(5).fill({ statusCode: 200 }))
  t.ok(Number(app.pg['tenantConfig']?.pool.totalCount) > 1)
  await loseConnections(service, databaseUrl)
  t.match(log(), 'lost an idle database connection')
  t.equal((await get(service)).statusCode, 404)

  const holder = await connect(t, databaseUrl)
  await holder.query(lock)
  const inFlight = get(service)
  await untilWaiting(databaseUrl, 1)
  await query(databaseUrl, terminateAll)
  const lost = await inFlight
  answered(t, service, lost, 'DATABASE_UNAVAILABLE')
  t.equal(lost.headers['retry-after'], '5')
  await holder.query('rollback')
  t.equal((await get(service)).statusCode, 404)
})

await t.test('a transaction that loses its connection causes no crash and no pool leak', async (t) => {
  const service = await buildTestApp(t, { DATABASE_POOL_MAX: 1 })
  const { app: { database }, databaseUrl } = service
  const lose = {
    'between two statements': async () => await query(databaseUrl, terminateAll),
    'within one': async (tx: Pick<typeof database, 'run'>) => await tx.run(
      sql`select pg_terminate_backend(pg_backend_pid())`
    )
  }
  for (const [when, loseIt] of Object.entries(lose)) {
    await t.rejects(database.transaction(async (tx) => {
      await tx.run(sql`select 1`)
      await loseIt(tx)
      await tx.run(sql`select 2`)
    }), { code: 'DATABASE_UNAVAILABLE' }, when)
    t.match(await database.transaction(async (tx) => await tx.run(sql`select 3 as three`)), [{ three: 3 }])
  }
  for (let i = 0; i < 3; i++) {
    await t.rejects(
      database.transaction(async () => { throw new Error('of the caller') }),
      { message: 'of the caller' }
    )
  }
  t.equal(service.app.pg['tenantConfig']?.pool.idleCount, 1)
})

await t.test('a request to a hanging database fails within 5 s, and writes nothing later', async (t) => {
  const service = await buildTestApp(t)
  const holder = await connect(t, service.databaseUrl)
  await holder.query(lock)
  const began = performance.now()
  answered(t, service, await post(service, 'acme'), 'DATABASE_UNAVAILABLE')
  t.ok(performance.now() - began < 5000, 'within 5 s')
  await holder.query('rollback')
  t.equal((await get(service)).statusCode, 404)
  t.equal((await post(service, 'acme')).statusCode, 201)
})

/** A proxy to the database that the test can freeze, cut and restore. */
async function startProxy (t: Test, databaseUrl: string) {
  const through = new URL(databaseUrl)
  const { port, hostname } = through
  const pairs = new Set<[Socket, Socket]>()
  let frozen = false
  const server = createServer((near) => {
    const pair: [Socket, Socket] = [near, createConnection(Number(port), hostname)]
    pairs.add(pair)
    for (const socket of pair) {
      socket.on('error', () => {})
      socket.on('close', () => {
        pairs.delete(pair)
        for (const end of pair) end.destroy()
      })
    }
    if (!frozen) join(pair)
  })
  const join = ([near, far]: [Socket, Socket]) => { near.pipe(far).pipe(near) }
  const part = ([near, far]: [Socket, Socket]) => { near.unpipe(far); far.unpipe(near) }
  const cut = () => {
    server.close()
    for (const [near] of pairs) near.destroy()
  }
  const listen = async (at: number) => { await once(server.listen(at, '127.0.0.1'), 'listening') }
  await listen(0)
  t.teardown(cut)
  const address = server.address()
  const own = typeof address === 'object' && address !== null ? address.port : 0
  through.host = `127.0.0.1:${own}`
  return {
    url: through.href,
    freeze () { frozen = true; pairs.forEach(part) },
    thaw () { frozen = false; pairs.forEach(join) },
    cut,
    mend: async () => await listen(own)
  }
}

await t.test('a frozen or cut network causes DATABASE_UNAVAILABLE until it is restored', async (t) => {
  const proxy = await startProxy(t, await createDatabase(t))
  const service = await buildTestApp(t, { DATABASE_URL: proxy.url })
  t.equal((await get(service)).statusCode, 404)
  proxy.freeze()
  for (const what of ['the connection there is', 'a new one']) {
    const began = performance.now()
    // The outcome of this write after the thaw is unknown.
    answered(t, service, await post(service, 'frozen'), 'DATABASE_UNAVAILABLE', what)
    t.ok(performance.now() - began < 5000, 'within 5 s')
  }
  proxy.thaw()
  t.equal((await get(service)).statusCode, 404)
  proxy.cut()
  answered(t, service, await post(service, 'acme'), 'DATABASE_UNAVAILABLE')
  await until(() => service.app.pg['tenantConfig']?.pool.totalCount === 0)
  answered(t, service, await post(service, 'acme'), 'DATABASE_UNAVAILABLE')
  t.match(service.log(), 'ECONNREFUSED')
  await proxy.mend()
  t.equal((await post(service, 'acme')).statusCode, 201)
})

await t.test('a missing database causes DATABASE_UNAVAILABLE, and the service is not ready', async (t) => {
  const service = await buildTestApp(t)
  const giveBack = await takeAway(service.databaseUrl)
  answered(t, service, await post(service, 'acme'), 'DATABASE_UNAVAILABLE')
  t.match(await service.app.inject('/health/ready'), { statusCode: 503 })
  t.match(await service.app.inject('/health/live'), { statusCode: 200 })
  await giveBack()
  t.match(await service.app.inject('/health/ready'), { statusCode: 200 })
})

await t.test('a read-only database refuses writes and serves reads', async (t) => {
  const service = await buildTestApp(t)
  const elsewhere = new URL(service.databaseUrl)
  const name = elsewhere.pathname.slice(1)
  elsewhere.pathname = '/postgres'
  const setReadOnly = async (value: string) => {
    await query(elsewhere.href, `alter database ${name} set default_transaction_read_only = ${value}`)
    await loseConnections(service, service.databaseUrl)
  }
  await setReadOnly('on')
  answered(t, service, await post(service, 'acme'), 'DATABASE_UNAVAILABLE')
  t.match(service.log(), '25006')
  t.equal((await get(service)).statusCode, 404)
  await setReadOnly('off')
  t.equal((await post(service, 'acme')).statusCode, 201)
})

await t.test('a connection limit or a wrong password causes DATABASE_UNAVAILABLE', async (t) => {
  const databaseUrl = await createDatabase(t)
  const role = `wtc_test_${randomBytes(8).toString('hex')}`
  await query(databaseUrl, `create role ${role} login password '${canary}';
    grant all on all tables in schema public to ${role}; grant all on all sequences in schema public to ${role};
    grant usage on schema drizzle to ${role}; grant select on all tables in schema drizzle to ${role}`)
  t.teardown(async () => await query(databaseUrl, `drop owned by ${role}; drop role ${role}`))
  const asRole = new URL(databaseUrl)
  Object.assign(asRole, { username: role, password: canary })
  const service = await buildTestApp(t, { DATABASE_URL: asRole.href })
  await query(databaseUrl, `alter role ${role} connection limit 2`)
  // The start left more connections in the pool than the limit.
  await loseConnections(service, databaseUrl)

  const holder = await connect(t, databaseUrl)
  await holder.query(lock)
  const first = post(service, 'acme')
  await untilWaiting(databaseUrl, 1)
  answered(t, service, await get(service), 'DATABASE_UNAVAILABLE')
  t.match(service.log(), '53300', 'too many connections')
  await holder.query('rollback')
  t.equal((await first).statusCode, 201)

  await query(databaseUrl, `alter role ${role} password 'another'`)
  await loseConnections(service, databaseUrl)
  answered(t, service, await get(service), 'DATABASE_UNAVAILABLE')
  t.match(service.log(), '28P01', 'wrong password')
  await query(databaseUrl, `alter role ${role} password '${canary}'`)
  t.equal((await get(service)).statusCode, 200)
})

await t.test('a start without a database fails, and its error shows no password', async (t) => {
  /** The errors of a start and a migration at a server that sends these bytes and then nothing. */
  async function faults (answer: string, parameters = ''): Promise<string[]> {
    const silent = createServer(
      (socket) => socket.on('error', () => {}).once('data', () => socket.write(answer, 'latin1'))
    ).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    t.teardown(() => silent.close())
    const address = silent.address()
    return await bootAndMigrate(
      `postgres://${canary}-u:${canary}@127.0.0.1:${typeof address === 'object' ? address?.port : ''}/${canary}${parameters}`
    )
  }
  async function bootAndMigrate (DATABASE_URL: string): Promise<string[]> {
    const both = await Promise.allSettled([buildTestApp(t, { DATABASE_URL }), migrate(DATABASE_URL)])
    return both.map((end) => end.status === 'rejected' ? inspect(end.reason, { depth: 9 }) : 'it booted')
  }
  const tried = {
    timeout: await Promise.all([faults(''), faults('S', '?sslmode=verify-full'), faults('R\0\0\0\x08\0\0\0\0')]),
    ECONNREFUSED: [await bootAndMigrate(`postgres://${canary}-u:${canary}@127.0.0.1:1/${canary}`)],
    '3D000': [await bootAndMigrate(Object.assign(new URL(await createDatabase(t)), { pathname: `/${canary}` }).href)]
  }
  for (const [why, ends] of Object.entries(tried)) {
    for (const message of ends.flat()) {
      t.match(
        message,
        RegExp(
          `^Error: The database cannot be reached: .*${why}.*\\. See that it runs and that DATABASE_URL is right\\.\n`
        )
      )
      t.notMatch(message, canary)
    }
  }
})

await t.test('if both addresses of a host fail, the error names the first one', async (t) => {
  const message = 'The database cannot be reached: connect ECONNREFUSED ::1:1. See that it runs and that ' +
    'DATABASE_URL is right.'
  const both = ['::1:1', '127.0.0.1:1'].map((address) => new Error(`connect ECONNREFUSED ${address}`))
  await t.rejects(assertReachable(Promise.reject(new AggregateError(both))), new Error(message))
})

await t.test('a URL with a raw % in its password and with options connects', async (t) => {
  const databaseUrl = await createDatabase(t)
  const role = `wtc_test_${randomBytes(8).toString('hex')}`
  await query(
    databaseUrl,
    `create role ${role} login password '100%é /'; grant connect on database ${new URL(databaseUrl).pathname.slice(1)} to ${role}`
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
