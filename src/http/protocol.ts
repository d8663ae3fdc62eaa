import type { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ExpectationFailed, MalformedRequest } from '../errors.js'

/** Requests of one connection that are executed at once. HTTP/1.1 sends their answers in order anyway. */
const MAX_EXECUTING = 8
/** Requests of one connection whose answer the client has not read. */
const MAX_UNANSWERED = 100

/** The requests of a connection whose answer is not sent: those that are executed, and those that wait. */
interface Unanswered { executing: number, waiting: Array<() => void> }

interface ProtocolOptions {
  /** The time after which an answer that makes no progress ends its connection. */
  unreadTimeoutMs?: number
}

/** Refuses requests that HTTP/1.1 forbids, and bounds the memory that one connection can use. */
async function protocol (fastify: FastifyInstance, options: ProtocolOptions): Promise<void> {
  const { unreadTimeoutMs = 30_000 } = options
  const unanswered = new WeakMap<Socket, Unanswered>()

  fastify.addHook('onRequest', ({ raw: { socket }, log }, { raw: response }, done) => {
    // An injected request has no connection.
    if (!(socket instanceof Socket)) return done()
    // Node still emits the requests that it had parsed when the connection was destroyed.
    if (socket.destroyed) return
    const requests = unanswered.get(socket) ?? { executing: 0, waiting: [] }
    unanswered.set(socket, requests)
    if (requests.executing + requests.waiting.length >= MAX_UNANSWERED) {
      log.info(`ended a connection: it sent more than ${MAX_UNANSWERED} requests without reading the answers`)
      socket.destroy()
      return
    }
    // Fires after this time without progress in either direction. A partial write counts as progress, so it may
    // take twice the time. While a handler works, nothing waits to be written.
    response.setTimeout(unreadTimeoutMs, () => { if (socket.writableLength > 0) socket.destroy() })
    // Runs before Node's own listener, which sets the timeout of an idle connection.
    response.prependOnceListener('finish', () => { socket.setTimeout(0) })
    const execute = () => {
      requests.executing++
      response.once('close', () => {
        requests.executing--
        if (!socket.destroyed) requests.waiting.shift()?.()
      })
      done()
    }
    if (requests.executing < MAX_EXECUTING) execute()
    else requests.waiting.push(execute)
  })

  fastify.addHook('onRequest', ({ raw }, _reply, done) => {
    if (raw.httpVersion !== '1.1') return done()
    if (countHosts(raw) !== 1) throw new MalformedRequest()
    const { expect } = raw.headers
    if (expect !== undefined && !/^100-continue$/i.test(expect)) throw new ExpectationFailed()
    done()
  })
}

export default fp(protocol, { name: 'protocol' })

/** Counts the raw `Host` headers. Node keeps the first, and a proxy may have routed by another. */
function countHosts ({ rawHeaders }: IncomingMessage): number {
  return rawHeaders.filter((name, i) => i % 2 === 0 && name.toLowerCase() === 'host').length
}
