import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'

const POLL_MS = 100
/** How long a request whose body is still on its way keeps a closing server open. */
const BODY_TIMEOUT_MS = 5000

/**
 * Has the server of `fastify` close although a client keeps a connection open without a whole request on it. Node closes idle connections
 * with the server, but waits for ever for one that has sent nothing or half a request, since its own time limits end with the server.
 */
export function drainOnClose (fastify: FastifyInstance): void {
  const { server } = fastify
  // By connection: Node closes no response that still waits behind another one when its connection ends.
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
      const isUnderWay = [...requests.values()].flatMap((ofSocket) => [...ofSocket]).some(({ complete }) => complete || performance.now() < end)
      if (!isUnderWay) server.closeAllConnections()
    }, POLL_MS)
  })
  // Runs once the server is closed.
  fastify.addHook('onClose', async () => { clearInterval(polling) })
}
