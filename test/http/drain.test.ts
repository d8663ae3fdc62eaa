import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify from 'fastify'
import t from '../run/tap.js'
import { drainOnClose } from '../../src/http/drain.js'
import { until } from '../helper.js'

/** A server that delays its answers until `answer` is called, and a connection that has sent this text. */
async function serverWith (sent: string) {
  const app = Fastify({ return503OnClosing: false })
  drainOnClose(app)
  let [started, answer] = [0, () => {}]
  app.all('/', async () => {
    started++
    await new Promise<void>((resolve) => { answer = resolve })
    return 'answered'
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const socket = connect(Number(new URL(app.listeningOrigin).port), '127.0.0.1')
  const accepted = once(app.server, 'connection')
  socket.on('error', () => {})
  await once(socket, 'connect')
  await accepted
  socket.write(sent)
  return { app, socket, started: () => started, answer: () => { answer() } }
}

const REQUEST = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n'

/** All that the connection receives until it ends. */
async function received (socket: Socket): Promise<string> {
  let text = ''
  socket.on('data', (chunk) => { text += String(chunk) })
  await once(socket, 'close')
  return text
}

await t.test('a server closes within 2 s although a connection sent no complete request', async (t) => {
  for (const sent of ['', 'GET / HTTP/1.1\r\nhost: x']) {
    const { app } = await serverWith(sent)
    await delay(20)
    const began = performance.now()
    await app.close()
    t.ok(performance.now() - began < 2000)
  }
})

await t.test('a request in progress is answered before the server closes', async (t) => {
  const { app, socket, started, answer } = await serverWith(REQUEST)
  await until(() => started() === 1)
  const text = received(socket)
  const closed = app.close()
  await delay(500)
  answer()
  await closed
  t.match(await text, /^HTTP\/1.1 200 [^]*answered$/)
})

await t.test('on close, the body of a request has five seconds to arrive', async (t) => {
  const { app, socket } = await serverWith(
    'POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"a":'
  )
  await delay(20)
  const began = performance.now()
  await app.close()
  t.ok(performance.now() - began > 4000 && performance.now() - began < 9000)
  socket.destroy()
})
