import { parallel, parallelTests } from '../../fixtures/embedded.js'
import { tcpProxy } from '../../fixtures/proxies/tcp-proxy.js'
import { createDatabase, query, until } from '../../helper.js'
import { createTestListener, insert, LISTENERS, timed } from './test-listener.js'

parallel('the listener is up after its handshake and reports every change', async (t) => {
  const url = await createDatabase(t)
  const { open, close, health, isUp, transitions, received, logLines } = createTestListener(t, { url })
  t.notOk(isUp())
  await open()
  t.ok(isUp())
  t.same(transitions, ['connect'])
  await insert(url, 'a')
  await query(url, 'truncate tenant_configs')
  await until(() => received.length === 2)
  t.same(received, [[['a', null, null]], null])
  const before = health.lastConfirmedAt
  await until(() => health.lastConfirmedAt > before)
  t.ok(
    health.lastConfirmedAt <= performance.now() && health.validUntil === health.lastConfirmedAt + 6000,
    'a heartbeat confirms the listener'
  )
  await close()
  t.notOk(isUp())
  t.same(transitions, ['connect'], 'close() is no loss')
  await until(async () => (await query(url, LISTENERS)).length === 0)
  t.match(logLines, [/are heard/])
  t.equal(logLines.length, 1)
})

parallel('an invalid payload invalidates everything, and the listener stays up', async (t) => {
  const url = await createDatabase(t)
  const { open, received, isUp } = createTestListener(t, { url })
  await open()
  const garbage = [
    '', 'x', 'null', '{}', '"a"', '1', '["a"]', '[[]]', '[["a"]]', '[["a", null]]', '[["a", null, null, null]]',
    '[[null, null, null]]', '[["a", 1, null]]', '[["a", {}, null]]', '[["a", null, null], 0]',
    '{"length":1,"0":["a",null,null]}', '['.repeat(7999), '[["a", null, null]'
  ]
  for (const payload of garbage) await query(url, 'select pg_notify($1, $2)', ['tenant_configs', payload])
  await query(url, 'select pg_notify($1, $2)', ['tenant_configs', '[["__proto__", "1", null]]'])
  await until(() => received.length === garbage.length + 1)
  t.same(received, [...garbage.map(() => null), [['__proto__', '1', null]]])
  t.ok(isUp())
})

parallel('close() ends the listener at once in every state', async (t) => {
  const url = await createDatabase(t)
  const elsewhere = await createDatabase(t)

  async function assertCloses (
    name: string,
    { close, isUp, transitions, attempts }: ReturnType<typeof createTestListener>,
    opened: Promise<void>,
    proxy?: { drop: () => void }
  ): Promise<void> {
    const before = [...transitions]
    const ms = await timed(close)
    proxy?.drop()
    t.ok(ms < 1000, `${name}: ${Math.round(ms)} ms`)
    await opened
    t.notOk(isUp())
    t.same(transitions, before)
    const { length } = attempts
    await until(async () => (await query(url, LISTENERS)).length === 0)
    t.equal(attempts.length, length, 'no attempt follows close()')
  }

  const frozen = await tcpProxy(t, url)
  frozen.freeze()
  const connecting = createTestListener(t, { url: frozen.url })
  const openedConnecting = connecting.open()
  await until(() => frozen.sockets > 0)
  await assertCloses('connecting', connecting, openedConnecting, frozen)

  const waiting = createTestListener(t, { url, notifyUrl: elsewhere })
  const openedWaiting = waiting.open()
  await until(async () => (await query(url, `${LISTENERS} and query like 'listen%' and state = 'idle'`)).length === 1)
  await assertCloses('waiting for its handshake', waiting, openedWaiting)

  const hanging = createTestListener(t, { url, notify: async () => await new Promise(() => {}) })
  const openedHanging = hanging.open()
  await until(async () => (await query(url, `${LISTENERS} and query like 'listen%' and state = 'idle'`)).length === 1)
  await assertCloses('sending its handshake', hanging, openedHanging)

  const up = createTestListener(t, { url })
  const openedUp = up.open()
  await openedUp
  await assertCloses('up', up, openedUp)

  const proxy = await tcpProxy(t, url)
  const silent = createTestListener(t, { url: proxy.url })
  const openedSilent = silent.open()
  await openedSilent
  proxy.freeze()
  const frozenAt = performance.now()
  await until(() => performance.now() > frozenAt + 2500)
  t.ok(silent.isUp())
  await assertCloses('in a heartbeat without an answer', silent, openedSilent, proxy)

  const refused = await tcpProxy(t, url)
  refused.refuse()
  const pausing = createTestListener(t, { url: refused.url })
  const openedPausing = pausing.open()
  await until(() => pausing.attempts.length === 5)
  await assertCloses('between two attempts', pausing, openedPausing)
})

await parallelTests()
