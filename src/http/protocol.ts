import type { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import pLimit, { type LimitFunction } from 'p-limit'
import { ExpectationFailed, MalformedRequest } from '../errors.js'

/** Requests of one connection that are executed at once; HTTP/1.1 answers them one after the other anyway. */
const MAX_EXECUTING = 8
/** Requests of one connection that have no answer yet, or one that the client has not read. */
const MAX_UNANSWERED = 100

/** Refuses requests that HTTP/1.1 forbids, and bounds what one connection can make the process hold. */
async function protocol (fastify: FastifyInstance, { unreadTimeoutMs = 30_000 }: { unreadTimeoutMs?: number }): Promise<void> {
  const limits = new WeakMap<Socket, LimitFunction>()

  fastify.addHook('onRequest', ({ raw: { socket }, log }, { raw: response }, done) => {
    // An injected request has no connection.
    if (!(socket instanceof Socket)) return done()
    // The rest of what Node had read when the connection was ended.
    if (socket.destroyed) return
    const limit = limits.get(socket) ?? pLimit(MAX_EXECUTING)
    limits.set(socket, limit)
    if (limit.activeCount + limit.pendingCount >= MAX_UNANSWERED) {
      log.info(`ended a connection: it sent more than ${MAX_UNANSWERED} requests without reading the answers`)
      socket.destroy()
      return
    }
    // Fires after so long without progress in either direction, at most twice as long: Node takes a write of which the
    // system accepted a part for progress. While a handler works, nothing waits to be written.
    response.setTimeout(unreadTimeoutMs, () => { if (socket.writableLength > 0) socket.destroy() })
    // Runs before Node's own listener, which sets the timeout of an idle connection.
    response.prependOnceListener('finish', () => { socket.setTimeout(0) })
    limit(async () => await new Promise<void>((resolve) => {
      // Ended while this request waited: Node closes only the response that was being sent.
      if (socket.destroyed) return resolve()
      response.once('close', resolve)
      done()
    })).catch(done)
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

/** Node keeps the first `Host` header and drops the others, which a proxy may have gone by. */
function countHosts ({ rawHeaders }: IncomingMessage): number {
  return rawHeaders.filter((name, i) => i % 2 === 0 && name.toLowerCase() === 'host').length
}
