import { once } from 'node:events'
import { createServer } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { parallel, parallelTests } from '../../fixtures/embedded.js'
import { buildTestApp, createDatabase, query, until } from '../../helper.js'
import { createTestListener, LISTENERS, timed } from './test-listener.js'

parallel('a listener that receives no notifications is never up and keeps retrying', async (t) => {
  const [url, notifyUrl] = await Promise.all([createDatabase(t), createDatabase(t)])
  const { open, isUp, transitions, logLines, attempts, target } = createTestListener(t, { url, notifyUrl })
  t.ok(await timed(open) < 4500)
  // A pending attempt must survive garbage collection, even if nothing else references it.
  setFlagsFromString('--expose-gc')
  const collecting = setInterval(runInNewContext('gc'), 250)
  await until(() => attempts.length === 3)
  clearInterval(collecting)
  t.notOk(isUp())
  t.same(transitions, [])
  t.match(logLines, [/DATABASE_DIRECT_URL must lead/])
  t.equal(logLines.length, 1)
  t.ok((await query(url, LISTENERS)).length <= 1)
  target.notifyUrl = url
  await until(isUp)
  t.same(transitions, ['connect'])
})

parallel('a server that is not PostgreSQL keeps the listener down, with one log line', async (t) => {
  const replies = ['HTTP/1.1 400 Bad Request\r\n\r\n', '\0'.repeat(100), 'S', 'R\0\0\0\u0008\0\0\0\0Z\0\0\0\u0005I', '']
  let connections = 0
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.end(replies[connections++ % replies.length] ?? '')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const address = server.address()
  const { open, isUp, logLines, attempts } = createTestListener(
    t,
    { url: `postgres://u:p@127.0.0.1:${typeof address === 'object' ? address?.port : ''}/x` }
  )
  await open()
  await until(() => attempts.length === 7)
  t.notOk(isUp())
  t.equal(logLines.length, 1)
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
    t.notOk((await app.configLoader.forTenant('acme')).hasTenantConfig(), 'the service works without its listener')
    t.equal(log().split('changes of configurations are not heard').length, 2, 'the loss is logged once')
    t.notMatch(log(), canary)
    await app.close()
  }
})

await parallelTests()
