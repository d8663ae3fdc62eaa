import { randomUUID } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { ConnectionError, FastifyBaseLogger } from 'fastify'
import { HeadersTooLarge, MalformedRequest, RequestTimeout, RouteNotFound, type ErrorClass } from '../errors.js'
import { toProblem } from './error-handler.js'

const errorByCode: Record<string, ErrorClass> = {
  HPE_HEADER_OVERFLOW: HeadersTooLarge,
  ERR_HTTP_REQUEST_TIMEOUT: RequestTimeout
}

/**
 * How long a connection is read after its last answer: closed over unread bytes it is reset, and a client that is still sending
 * might not see the answer (RFC 9112, section 9.6).
 */
const LINGER_MS = 1000

/**
 * Answers what Node cannot read as a request, and so no route ever sees, with a problem, and ends the connection.
 * Takes what Node's `clientError` event gives, and a log.
 */
export function answerUnreadable (log: FastifyBaseLogger, err: ConnectionError, socket: Duplex): void {
  // A client that is gone needs no answer. Node tells each further piece of what it cannot read, too.
  if (!socket.writable) return
  writeProblem(log, errorByCode[err.code] ?? MalformedRequest, socket, err)
  socket.end()
  setTimeout(() => { socket.destroy() }, LINGER_MS).unref()
}

/** Answers a CONNECT request with a problem and ends the connection; Node gives its socket to no route. */
export function refuseTunnel (log: FastifyBaseLogger, socket: Duplex): void {
  writeProblem(log, RouteNotFound, socket)
  socket.destroy()
}

function writeProblem (log: FastifyBaseLogger, Meaning: ErrorClass, socket: Duplex, err?: ConnectionError): void {
  const problem = toProblem(new Meaning(), randomUUID())
  log.info({ reqId: problem.request_id, err }, `could not read a request: ${problem.code}`)
  const body = JSON.stringify(problem)
  socket.write([
    `HTTP/1.1 ${problem.status} ${problem.title}`,
    'content-type: application/problem+json',
    'cache-control: no-store',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
    '',
    body
  ].join('\r\n'))
}
