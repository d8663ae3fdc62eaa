import type { FastifyReply } from 'fastify'

/** Ends what waits for a client that has closed its connection. Nobody reads the answer, and it is no fault of the service. */
class ClientGone extends Error {
  readonly statusCode = 400
}

/** Returns a signal that is aborted when the client closes the connection before it has its answer. */
export function clientSignal (reply: FastifyReply): AbortSignal {
  const controller = new AbortController()
  // Not `request.signal`: Node closes the request itself as soon as its body has been read.
  reply.raw.once('close', () => { controller.abort(new ClientGone('the client closed the connection')) })
  return controller.signal
}
