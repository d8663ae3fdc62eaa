import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { faults } from '../../graph/faults.js'
import { dataDir, killAll, pidOf } from '../../fixtures/embedded.js'
import { ownPostgres } from '../../fixtures/postgres/own-postgres.js'
import {
  connectionsOf, listeningService, lockRows, META_TIMEOUT_MS, POOL_MAX, rowsOf, stallChanges, type Outcome
} from '../../fixtures/operations.js'
import { serverProcess, signed } from '../../fixtures/server-process.js'
import { JWT_SECRET, query, until } from '../../helper.js'

const LIMIT_MS = 5000

const postgres = await ownPostgres(t)
const { url } = postgres
const service = await listeningService(t, postgres)
const { app, meta, ask, operations, all, change, ready } = service

/** Asserts that each request failed in time with DATABASE_UNAVAILABLE. */
function assertUnavailable (t: Test, outcomes: Outcome[]): void {
  const slowest = Math.max(...outcomes.map(({ ms }) => ms))
  t.comment(`${outcomes.length} answers, the slowest after ${Math.round(slowest)} ms`)
  t.ok(slowest < LIMIT_MS, `each answer takes less than ${LIMIT_MS} ms`)
  for (const { status, code, retryAfter } of outcomes) {
    t.same([status, code], [503, 'DATABASE_UNAVAILABLE'])
    t.ok(retryAfter)
  }
}

const callEach = async (times = 1) => await Promise.all(
  Object.values(all).flatMap((ask) => Array.from({ length: times }, ask))
)

async function fillPool (): Promise<void> {
  await Promise.all(Array.from({ length: 5 * POOL_MAX }, operations.getConfig))
}

/**
 * Asserts full recovery without a restart. Without `before` the rows may differ, because a sent write may have been
 * executed.
 */
async function assertRecovered (t: Test, before?: unknown[]): Promise<void> {
  const [{ now } = {}] = await query(url, 'select clock_timestamp()::text as now')
  await until(ready)
  // The server process of an abandoned connection exists until its statement ends.
  await until(async () => {
    await fillPool()
    return (await connectionsOf(url, `state_change < '${now}'`)).length === 0
  })
  if (before === undefined) await service.create()
  else t.same(await rowsOf(url), before, 'no failed write was executed')
  // A probe of the outage detector sends no statement.
  t.ok((await connectionsOf(url, "query <> ''")).length <= POOL_MAX, 'the pool has no more connections than its limit')
  const { getConfig, updateConfig, listConfigs, getStats } = operations
  for (const operation of [getConfig, updateConfig, listConfigs, getStats]) t.equal((await operation()).status, 200)
}

await t.test('every operation documented with DATABASE_UNAVAILABLE is tested here', async (t) => {
  type Paths = Record<string, Record<string, { operationId: string }>>
  const { paths }: { paths: Paths } = (await app.inject('/docs/json')).json()
  const documented = Object.values(paths).flatMap((path) => Object.values(path))
    .filter((operation) => JSON.stringify(operation).includes('DATABASE_UNAVAILABLE')).map(
      ({ operationId }) => operationId
    )
  t.ok(documented.length > 10)
  t.same(Object.keys(operations).sort(), documented.sort())
})

await t.test('a request whose backend is killed fails in time and writes nothing', async (t) => {
  const before = await rowsOf(url)
  const stall = await stallChanges(url)
  const asked = change({ verify_token: 'never' })
  await stall.waiting()
  await query(url, "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
  assertUnavailable(t, [await asked])
  await stall.release()
  await assertRecovered(t, before)
})

await t.test('the service recovers when all backends are killed, idle and busy ones', async (t) => {
  const before = await rowsOf(url)
  await fillPool()
  const stall = await stallChanges(url)
  const asked = change({ verify_token: 'never' })
  await stall.waiting()
  t.equal((await connectionsOf(url)).length, POOL_MAX)
  await query(url, "select pg_terminate_backend(pid) from pg_stat_activity where application_name ~ 'tenant-config'")
  assertUnavailable(t, [await asked])
  // Background work may have used one of them.
  await until(() => service.log().split('lost an idle database connection').length >= POOL_MAX - 1)
  await stall.release()
  await assertRecovered(t, before)
})

for (const how of ['fast', 'immediate', 'killed'] as const) {
  await t.test(`the service recovers when the database is stopped (${how}) during a request`, async (t) => {
    const before = await rowsOf(url)
    await fillPool()
    const stall = await stallChanges(url)
    const asked = change({ verify_token: 'never' })
    await stall.waiting()
    await postgres.stop(how)
    assertUnavailable(t, [await asked])
    assertUnavailable(t, await callEach(3))
    t.equal((await ask('GET', '/health/live')).status, 200)
    t.same(meta.requests, [], 'no code was sent to Meta')
    await postgres.start()
    await stall.release()
    await assertRecovered(t, before)
  })
}

await t.test('the service recovers from a database frozen during a request', async (t) => {
  await fillPool()
  const lock = await lockRows(t, url)
  const asked = change({ verify_token: 'never' })
  await lock.waiting()
  t.teardown(postgres.thaw)
  await postgres.freeze()
  const released = lock.release()
  const [first, rest, live] = await Promise.all([asked, callEach(), ask('GET', '/health/live')])
  t.equal(live.status, 200)
  assertUnavailable(t, [first])
  assertUnavailable(t, rest)
  const flood = await callEach(4)
  // The tenant's queue refuses the requests that it cannot start in time.
  assertUnavailable(t, flood.filter(({ code }) => code !== 'RATE_LIMITED'))
  t.ok(flood.every(({ ms }) => ms < LIMIT_MS))
  t.same(meta.requests, [], 'no code was sent to Meta')
  postgres.thaw()
  await released
  // PostgreSQL executes statements that it had already received after the thaw.
  await assertRecovered(t)
})

await t.test('the service recovers from a database frozen during a call to Meta', async (t) => {
  meta.fail('phone_numbers', { latency_ms: META_TIMEOUT_MS / 2 })
  const asked = service.onboard()
  await until(() => meta.requests.at(-1)?.route === 'phone_numbers')
  t.teardown(postgres.thaw)
  await postgres.freeze()
  assertUnavailable(t, [await asked])
  postgres.thaw()
  await assertRecovered(t)
})

await t.test('requests fail within 5 seconds while a row lock stays, however many wait', async (t) => {
  const before = await rowsOf(url)
  const lock = await lockRows(t, url)
  const waves = []
  // So many requests arrive that one may wait twice for a connection.
  for (let wave = 0; wave < 15; wave++) {
    waves.push(Array.from({ length: 8 }, () => change({ access_token: 'never' })))
    await delay(100)
  }
  assertUnavailable(t, await Promise.all(waves.flat()))
  await lock.release()
  await assertRecovered(t, before)
})

await t.test('an onboarding fails in time and writes nothing when Meta fails', async (t) => {
  await change({ callback_url: null })
  const before = await rowsOf(url)
  const cases = [
    [{ latency_ms: 60_000 }, 504, 'META_TIMEOUT'],
    [faults.dropBefore, 503, 'META_UNAVAILABLE'],
    [faults.dropAfter, 503, 'META_UNAVAILABLE'],
    [faults.badGateway, 503, 'META_UNAVAILABLE']
  ] as const
  const assertFails = async (what: string, status: number, code: string) => {
    const outcome = await service.onboard()
    t.same([outcome.status, outcome.code], [status, code], what)
    t.ok(outcome.ms < META_TIMEOUT_MS + 1000, `${Math.round(outcome.ms)} ms`)
    t.same(await rowsOf(url), before, 'the row did not change')
  }
  for (const route of ['access_token', 'debug_token', 'phone_numbers'] as const) {
    for (const [fault, status, code] of cases) {
      meta.fail(route, fault)
      // The outcome of a failed exchange is unknown.
      const isUnknown = route === 'access_token'
      await assertFails(
        `${route}: ${Object.keys(fault).join()}`,
        isUnknown ? 502 : status,
        isUnknown ? 'META_EXCHANGE_UNKNOWN' : code
      )
    }
  }
  t.equal((await service.onboard()).status, 200)
  const onboarded = await rowsOf(url)
  await meta.close()
  const outcome = await service.onboard()
  t.same([outcome.status, outcome.code], [503, 'META_UNAVAILABLE'])
  t.same(await rowsOf(url), onboarded)
})

await t.test('acknowledged writes survive kill -9 of the server and of its PostgreSQL', async (t) => {
  const dir = dataDir(t)
  const start = async () => await serverProcess(t, { DATA_DIR: dir, JWT_SECRET })
  const tenants = ['a', 'b', 'c', 'd'].map((id) => ({
    authorization: `Bearer ${signed({ tenant_id: id }, JWT_SECRET)}`,
    acknowledged: 0
  }))
  const valueOf = (n: number) => ({
    waba_id: String(n),
    phone_number_id: null,
    verify_token: `value ${n}`,
    callback_url: `https://a.example/${n}`
  })

  /** Writes ascending numbers, each to several columns, until the server is gone. */
  async function write (origin: string, tenant: { authorization: string, acknowledged: number }): Promise<void> {
    for (;;) {
      const next = tenant.acknowledged + 1
      const reply = await fetch(`${origin}/api/v1/tenant/config`, {
        method: next === 1 ? 'POST' : 'PUT',
        headers: { authorization: tenant.authorization, 'content-type': 'application/json' },
        body: JSON.stringify(valueOf(next))
      }).catch(() => undefined)
      if (reply === undefined) return
      if (!reply.ok) throw new Error(await reply.text())
      tenant.acknowledged = next
    }
  }

  let server = await start()
  for (const alsoPostgres of [false, true]) {
    const from = tenants.map(({ acknowledged }) => acknowledged)
    const writing = tenants.map(async (tenant) => { await write(server.origin, tenant) })
    await until(() => tenants.every(({ acknowledged }, i) => acknowledged > (from[i] ?? 0) + 20))
    const ended = server.end('SIGKILL')
    if (alsoPostgres) killAll(pidOf(dir))
    await ended
    await Promise.all(writing)
    server = await start()
    for (const tenant of tenants) {
      const { authorization, acknowledged } = tenant
      const stored: unknown = await (await fetch(
        `${server.origin}/api/v1/tenant/config/full`,
        { headers: { authorization } }
      )).json()
      const n = acknowledged + (JSON.stringify(stored).includes(`"value ${acknowledged}"`) ? 0 : 1)
      t.match(stored, valueOf(n), `${acknowledged} were acknowledged, ${n} are stored completely`)
      tenant.acknowledged = n
    }
  }
  t.equal(await server.end('SIGTERM'), 0)
})
