import { once } from 'node:events'
import { createServer } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import pg from 'pg'
import type { Test } from 'tap'
import { sessionOptions } from '../../../src/database/connection.js'
import { createInvalidationListener } from '../../../src/config-loader/invalidation-listener.js'
import type { RowChange } from '../../../src/tenant-configs/tenant-configs.js'
import { parallel, parallelTests } from '../../fixtures/embedded.js'
import { ownPostgres } from '../../fixtures/own-postgres.js'
import { tcpProxy } from '../../fixtures/tcp-proxy.js'
import { buildTestApp, createDatabase, query, until } from '../../helper.js'

const LISTENERS = 'select pid from pg_stat_activity where datname = current_database() and application_name = ' +
  "'whatsapp-tenant-config listen'"

/** A listener over these URLs that records its events; closed at the end of the test. */
function channelOver (
  t: Test,
  { url, notifyUrl = url, notify }: { url: string, notifyUrl?: string, notify?: () => Promise<unknown> }
) {
  const told: Array<RowChange[] | null> = []
  const turns: string[] = []
  const lines: string[] = []
  const attempts: number[] = []
  const way = { notifyUrl }
  const channel = createInvalidationListener({
    connect (config) {
      attempts.push(performance.now())
      return new pg.Client({ ...sessionOptions(url), ...config })
    },
    notify: notify ?? (async (name) => await query(way.notifyUrl, `notify ${name}`)),
    log: { info: (text) => { lines.push(text) }, warn: (_detail, text) => { lines.push(text) } }
  })
  t.teardown(channel.close)
  const isUp = () => performance.now() < channel.health.validUntil
  const listeners = {
    onChanges: (changes: RowChange[] | null) => { told.push(changes) },
    onConnect: () => { turns.push('connect') },
    onLoss: () => { turns.push(isUp() ? 'loss while up' : 'loss') }
  }
  return { ...channel, told, turns, lines, attempts, way, open: async () => await channel.open(listeners), isUp }
}

async function timed (work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now()
  await work()
  return performance.now() - begun
}

const insert = async (url: string, id: string) => await query(
  url,
  'insert into tenant_configs (tenant_id) values ($1)',
  [id]
)

parallel('the listener is up after its handshake and reports every change', async (t) => {
  const url = await createDatabase(t)
  const { open, close, health, isUp, turns, told, lines } = channelOver(t, { url })
  t.notOk(isUp())
  await open()
  t.ok(isUp())
  t.same(turns, ['connect'])
  await insert(url, 'a')
  await query(url, 'truncate tenant_configs')
  await until(() => told.length === 2)
  t.same(told, [[['a', null, null]], null])
  const before = health.lastConfirmedAt
  await until(() => health.lastConfirmedAt > before)
  t.ok(
    health.lastConfirmedAt <= performance.now() && health.validUntil === health.lastConfirmedAt + 6000,
    'a heartbeat'
  )
  await close()
  t.notOk(isUp())
  t.same(turns, ['connect'], 'who closes it has lost nothing')
  await until(async () => (await query(url, LISTENERS)).length === 0)
  t.match(lines, [/are heard/])
  t.equal(lines.length, 1)
})

parallel('a terminated backend is replaced by a new connection each time', async (t) => {
  const url = await createDatabase(t)
  const { open, isUp, turns, told, lines, attempts } = channelOver(t, { url })
  await open()
  for (let times = 1; times <= 10; times++) {
    await query(url, `select pg_terminate_backend(pid, 10000) from (${LISTENERS}) as listeners`)
    await until(() => turns.length === 2 * times + 1)
    t.ok(isUp())
    await insert(url, `t${times}`)
    await until(() => told.length === times)
  }
  t.same(turns, ['connect', ...Array.from({ length: 10 }, () => ['loss', 'connect'])].flat(), 'each is told once')
  t.same(told, Array.from({ length: 10 }, (_, i) => [[`t${i + 1}`, null, null]]))
  t.same((await query(url, LISTENERS)).length, 1)
  t.equal(attempts.length, 11)
  t.equal(lines.length, 21)
})

parallel('the listener reconnects with growing pauses and logs the loss once', async (t) => {
  const proxy = await tcpProxy(t, await createDatabase(t))
  const { open, isUp, turns, lines, attempts } = channelOver(t, { url: proxy.url })
  await open()
  proxy.refuse()
  await until(() => !isUp())
  await until(() => attempts.length === 9)
  const pauses = attempts.slice(2).map((at, i) => at - (attempts[i + 1] ?? NaN))
  t.ok(pauses.every((pause) => pause > 50 && pause < 3000), pauses.map(Math.round).join())
  t.ok((pauses.at(-1) ?? 0) > 900, 'up to 2 s')
  t.same(turns, ['connect', 'loss'])
  t.equal(lines.length, 2, 'one line for the loss, none for each attempt')
  proxy.admit()
  await until(isUp)
  t.same(turns, ['connect', 'loss', 'connect'])
  t.equal(lines.length, 3)
  proxy.drop()
  const [count, lost] = [attempts.length, performance.now()]
  await until(() => attempts.length > count)
  t.ok(performance.now() - lost < 1000, 'soon again')
})

parallel('a half-open connection is detected', async (t) => {
  const url = await createDatabase(t)
  const proxy = await tcpProxy(t, url)
  const { open, health, isUp, turns, told } = channelOver(t, { url: proxy.url, notifyUrl: url })
  await open()
  await insert(url, 'a')
  await until(() => told.length === 1)
  proxy.freeze()
  await insert(url, 'b')
  const frozen = performance.now()
  t.ok(health.validUntil < frozen + 6000)
  await until(() => !isUp())
  t.ok(performance.now() - frozen < 6050, 'it is not trusted for long')
  await until(() => turns.length === 2)
  t.ok(performance.now() - frozen < 6500, 'and given up')
  proxy.thaw()
  await until(isUp)
  t.same(turns, ['connect', 'loss', 'connect'])
  t.equal(told.length, 1, 'b is not told, the connect says it')
})

parallel('a slow connection stays up', async (t) => {
  const proxy = await tcpProxy(t, await createDatabase(t))
  proxy.slow(250)
  const { open, isUp, health, turns } = channelOver(t, { url: proxy.url })
  await open()
  t.ok(isUp())
  const before = health.lastConfirmedAt
  await until(() => health.lastConfirmedAt > before)
  t.same(turns, ['connect'])
})

parallel('a stopped backend is detected while others write', async (t) => {
  const { url } = await ownPostgres(t)
  const { open, isUp, turns, told } = channelOver(t, { url })
  await open()
  const [{ pid } = {}] = await query(url, LISTENERS)
  const wake = () => { try { process.kill(Number(pid), 'SIGCONT') } catch {} }
  t.teardown(wake)
  process.kill(Number(pid), 'SIGSTOP')
  const stopped = performance.now()
  await insert(url, 'a')
  await until(() => turns.length === 2)
  t.ok(performance.now() - stopped < 6500)
  await until(isUp)
  await insert(url, 'b')
  await until(() => told.length === 1)
  t.same(told, [[['b', null, null]]])
  wake()
  await until(async () => (await query(url, LISTENERS)).length === 1)
  t.same(turns, ['connect', 'loss', 'connect'])
})

parallel('a frozen server is detected, and the listener reconnects', async (t) => {
  const postgres = await ownPostgres(t)
  const { open, isUp, turns, lines } = channelOver(t, { url: postgres.url })
  await postgres.freeze()
  t.ok(await timed(open) < 4500, 'the start does not wait for ever')
  t.notOk(isUp())
  postgres.thaw()
  await until(isUp)
  await postgres.freeze()
  await until(() => turns.length === 2)
  postgres.thaw()
  await until(isUp)
  await postgres.stop('immediate')
  await until(() => !isUp())
  await postgres.start()
  await until(isUp)
  t.same(turns, ['connect', 'loss', 'connect', 'loss', 'connect'])
  t.equal(lines.length, 6)
})

parallel('a listener that receives no notifications is never up and keeps retrying', async (t) => {
  const [url, notifyUrl] = await Promise.all([createDatabase(t), createDatabase(t)])
  const { open, isUp, turns, lines, attempts, way } = channelOver(t, { url, notifyUrl })
  t.ok(await timed(open) < 4500)
  // A pending attempt must survive garbage collection, even if nothing else references it.
  setFlagsFromString('--expose-gc')
  const collecting = setInterval(runInNewContext('gc'), 250)
  await until(() => attempts.length === 3)
  clearInterval(collecting)
  t.notOk(isUp())
  t.same(turns, [])
  t.match(lines, [/DATABASE_DIRECT_URL must lead/])
  t.equal(lines.length, 1)
  t.ok((await query(url, LISTENERS)).length <= 1)
  way.notifyUrl = url
  await until(isUp)
  t.same(turns, ['connect'])
})

parallel('an invalid payload invalidates everything, and the listener stays up', async (t) => {
  const url = await createDatabase(t)
  const { open, told, isUp } = channelOver(t, { url })
  await open()
  const garbage = ['', 'x', 'null', '{}', '"a"', '1', '["a"]', '[[]]', '[["a"]]', '[["a", null]]', '[["a", null, null, null]]', '[[null, null, null]]', '[["a", 1, null]]', '[["a", {}, null]]',
    '[["a", null, null], 0]', '{"length":1,"0":["a",null,null]}', '['.repeat(7999), '[["a", null, null]']
  for (const payload of garbage) await query(url, 'select pg_notify($1, $2)', ['tenant_configs', payload])
  await query(url, 'select pg_notify($1, $2)', ['tenant_configs', '[["__proto__", "1", null]]'])
  await until(() => told.length === garbage.length + 1)
  t.same(told, [...garbage.map(() => null), [['__proto__', '1', null]]])
  t.ok(isUp())
})

parallel('a server that is not PostgreSQL keeps the listener down, with one log line', async (t) => {
  const answers = ['HTTP/1.1 400 Bad Request\r\n\r\n', '\0'.repeat(100), 'S', 'R\0\0\0\u0008\0\0\0\0Z\0\0\0\u0005I', '']
  let asked = 0
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.end(answers[asked++ % answers.length] ?? '')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const address = server.address()
  const { open, isUp, lines, attempts } = channelOver(
    t,
    { url: `postgres://u:p@127.0.0.1:${typeof address === 'object' ? address?.port : ''}/x` }
  )
  await open()
  await until(() => attempts.length === 7)
  t.notOk(isUp())
  t.equal(lines.length, 1)
})

parallel('close() ends the listener at once in every state', async (t) => {
  const url = await createDatabase(t)
  const elsewhere = await createDatabase(t)

  async function closes (
    name: string,
    { close, isUp, turns, attempts }: ReturnType<typeof channelOver>,
    opened: Promise<void>,
    way?: { drop: () => void }
  ): Promise<void> {
    const before = [...turns]
    const ms = await timed(close)
    way?.drop()
    t.ok(ms < 1000, `${name}: ${Math.round(ms)} ms`)
    await opened
    t.notOk(isUp())
    t.same(turns, before)
    const { length } = attempts
    await until(async () => (await query(url, LISTENERS)).length === 0)
    t.equal(attempts.length, length, 'and tries no more')
  }

  const frozen = await tcpProxy(t, url)
  frozen.freeze()
  const connecting = channelOver(t, { url: frozen.url })
  const openedConnecting = connecting.open()
  await until(() => frozen.sockets > 0)
  await closes('connecting', connecting, openedConnecting, frozen)

  const unheard = channelOver(t, { url, notifyUrl: elsewhere })
  const openedUnheard = unheard.open()
  await until(async () => (await query(url, `${LISTENERS} and query like 'listen%' and state = 'idle'`)).length === 1)
  await closes('waiting for its hello', unheard, openedUnheard)

  const hanging = channelOver(t, { url, notify: async () => await new Promise(() => {}) })
  const openedHanging = hanging.open()
  await until(async () => (await query(url, `${LISTENERS} and query like 'listen%' and state = 'idle'`)).length === 1)
  await closes('sending its hello', hanging, openedHanging)

  const up = channelOver(t, { url })
  const openedUp = up.open()
  await openedUp
  await closes('up', up, openedUp)

  const proxy = await tcpProxy(t, url)
  const silent = channelOver(t, { url: proxy.url })
  const openedSilent = silent.open()
  await openedSilent
  proxy.freeze()
  const asked = performance.now()
  await until(() => performance.now() > asked + 2500)
  t.ok(silent.isUp())
  await closes('in a heartbeat that is not answered', silent, openedSilent, proxy)

  const refused = await tcpProxy(t, url)
  refused.refuse()
  const waiting = channelOver(t, { url: refused.url })
  const openedWaiting = waiting.open()
  await until(() => waiting.attempts.length === 5)
  await closes('between two attempts', waiting, openedWaiting)
})

parallel('a wrong DATABASE_DIRECT_URL is logged once and without its credentials', async (t) => {
  const url = new URL(await createDatabase(t))
  const canary = 'canary-of-the-password'
  const wrong = [
    Object.assign(new URL(url), { password: canary }).href,
    `postgres://${canary}:${canary}@127.0.0.1:9/${canary}`,
    `postgres://u:${canary}@nowhere.invalid/x`
  ]
  for (const DATABASE_DIRECT_URL of wrong) {
    const { app, log } = await buildTestApp(t, { DATABASE_URL: url.href, DATABASE_DIRECT_URL })
    t.equal(app.configLoader.stats().channel, 'down')
    t.notOk((await app.configLoader.forTenant('acme')).hasTenantConfig(), 'it works all the same')
    t.equal(log().split('changes of configurations are not heard').length, 2, 'once')
    t.notMatch(log(), canary)
    await app.close()
  }
})

await parallelTests()
