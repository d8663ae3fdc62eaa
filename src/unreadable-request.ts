import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import type { ConnectionError, FastifyBaseLogger } from 'fastify'
import { HeadersTooLarge, MalformedRequest, RequestTimeout, type ErrorClass } from './errors.js'
import { toProblem } from './plugins/error-handler.js'

const meanings: Record<string, ErrorClass> = {
  HPE_HEADER_OVERFLOW: HeadersTooLarge,
  ERR_HTTP_REQUEST_TIMEOUT: RequestTimeout
}

/**
 * Answers what Node cannot read as a request, and so no route ever sees, with a problem, and ends the connection.
 * Takes what Node's `clientError` event gives, and a log.
 */
export function answerUnreadable (log: FastifyBaseLogger, err: ConnectionError, socket: Socket): void {
  // A client that is gone needs no answer.
  if (socket.writable) {
    const Meaning = meanings[err.code] ?? MalformedRequest
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
  socket.destroy(err)
}
