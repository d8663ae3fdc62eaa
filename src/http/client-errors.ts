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
 * The time for which a connection is read after its last answer. Closing it over unread bytes resets it (RFC 9112,
 * section 9.6), and a client that still sends might not see the answer.
 */
const LINGER_MS = 1000

/** Answers bytes that Node cannot parse as a request with a problem, and ends the connection: no route sees them. */
export function answerUnreadable (log: FastifyBaseLogger, err: ConnectionError, socket: Duplex): void {
  // Not writable: the client is gone, or this is a repeated event. Node emits one for each further chunk.
  if (!socket.writable) return
  writeProblem(log, errorByCode[err.code] ?? MalformedRequest, socket, err)
  socket.end()
  setTimeout(() => { socket.destroy() }, LINGER_MS).unref()
}

/** Answers a CONNECT request with a problem and ends the connection: no route sees it. */
export function refuseTunnel (log: FastifyBaseLogger, socket: Duplex): void {
  writeProblem(log, RouteNotFound, socket)
  socket.destroy()
}

function writeProblem (log: FastifyBaseLogger, ErrorClass: ErrorClass, socket: Duplex, err?: ConnectionError): void {
  const problem = toProblem(new ErrorClass(), randomUUID())
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
