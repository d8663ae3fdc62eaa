import type { FastifyReply } from 'fastify'

/** The reason of an aborted `clientSignal`. Below 500: it is no fault of the service when a client leaves. */
class ClientGone extends Error {
  readonly statusCode = 400
}

/** Creates a signal that is aborted when the client closes the connection before the answer is sent. */
export function clientSignal (reply: FastifyReply): AbortSignal {
  const controller = new AbortController()
  // Not `request.signal`: Node closes the request itself as soon as its body has been read.
  reply.raw.once('close', () => { controller.abort(new ClientGone('the client closed the connection')) })
  return controller.signal
}
