import { once } from 'node:events'
import { createServer } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { fetch as undiciFetch } from 'undici'
import t from '../run/tap.js'
import { readBody } from '../../src/outbound/body.js'
import { until } from '../helper.js'

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

for (const [name, fetchOf, redirect] of [
  ['Node’s fetch', fetch, 'error'], ['Node’s fetch', fetch, 'manual'],
  ['undici’s fetch', undiciFetch, 'error'], ['undici’s fetch', undiciFetch, 'manual']
] as const) {
  await t.test(`a body that never ends is given up, after a collection of garbage: ${name}, ${redirect}`, async (t) => {
    let open = 0
    const server = createServer((_request, reply) => {
      open++
      const timer = setInterval(() => { reply.write(' ') }, 20)
      reply.on('close', () => {
        open--
        clearInterval(timer)
      })
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => { server.close() })
    const address = server.address()
    const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
    const controller = new AbortController()
    const { signal } = controller
    const read = async () => await readBody(await fetchOf(url, { redirect, signal }), 1e6, signal)
    const reading = read()
    await until(() => open === 1)
    for (let i = 0; i < 10; i++) {
      await delay(50)
      collectGarbage()
    }
    controller.abort(new Error('too late'))
    await t.rejects(reading, { message: 'too late' })
    await until(() => open === 0)
  })
}
