import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'

const POLL_MS = 100
/** The time for which a request without its whole body keeps a closing server open. */
const BODY_TIMEOUT_MS = 5000

/**
 * Lets the server of `fastify` close although a client keeps a connection open without a whole request on it.
 * Node closes idle connections with the server. A connection without a whole request keeps it open for ever:
 * its own timeouts end with the server.
 */
export function drainOnClose (fastify: FastifyInstance): void {
  const { server } = fastify
  // By connection: when one ends, Node emits no 'close' for responses that wait behind another.
  const requests = new Map<Socket, Set<IncomingMessage>>()
  let polling: NodeJS.Timeout | undefined
  server.on('connection', (socket: Socket) => {
    requests.set(socket, new Set())
    socket.once('close', () => { requests.delete(socket) })
  })
  server.on('request', (request: IncomingMessage, response) => {
    requests.get(request.socket)?.add(request)
    response.once('close', () => { requests.get(request.socket)?.delete(request) })
  })
  fastify.addHook('preClose', async () => {
    const end = performance.now() + BODY_TIMEOUT_MS
    polling = setInterval(() => {
      const unanswered = [...requests.values()].flatMap((ofSocket) => [...ofSocket])
      const isInProgress = unanswered.some(({ complete }) => complete || performance.now() < end)
      if (!isInProgress) server.closeAllConnections()
    }, POLL_MS)
  })
  // Fastify runs this once the server is closed.
  fastify.addHook('onClose', async () => { clearInterval(polling) })
}
