import { createHmac, timingSafeEqual } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { createServer } from 'node:http'
import { buffer } from 'node:stream/consumers'

/** An event as received, and whether its signature is valid. */
export type Received = Record<string, unknown> & { is_signed: boolean }

const EVENT_TIMEOUT_MS = 20_000

interface ReceiverSecrets { verifyToken: string, eventsSecret: string }

/** Starts the HTTP server of a platform: it answers Meta's verification of a callback, and receives signed events. */
export async function startReceiver ({ verifyToken, eventsSecret }: ReceiverSecrets) {
  const received: Received[] = []
  const arrivals = new EventEmitter()
  const server = createServer(async (request, reply) => {
    const { searchParams: query } = new URL(String(request.url), 'http://127.0.0.1')
    if (request.method === 'GET') {
      reply.end(query.get('hub.verify_token') === verifyToken ? query.get('hub.challenge') : 'no')
      return
    }
    const bytes = await buffer(request)
    const signature = String(request.headers['x-signature-256'])
    received.push({ ...JSON.parse(String(bytes)), is_signed: isSigned(bytes, signature, eventsSecret) })
    reply.end()
    arrivals.emit('event')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return {
    url: `http://127.0.0.1:${typeof address === 'object' && address?.port}`,

    /** Waits for an event of each of these types, and returns all of these types. */
    async waitForEvents (types: string[]): Promise<{ events: Received[] }> {
      const signal = AbortSignal.timeout(EVENT_TIMEOUT_MS)
      const wanted = () => received.filter(({ type }) => types.includes(String(type)))
      while (wanted().length < types.length) await once(arrivals, 'event', { signal })
      return { events: wanted() }
    },

    async close (): Promise<void> {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    }
  }
}

function isSigned (bytes: Buffer, header: string, secret: string): boolean {
  const expected = Buffer.from(`sha256=${createHmac('sha256', secret).update(bytes).digest('hex')}`)
  const given = Buffer.from(header)
  return given.length === expected.length && timingSafeEqual(given, expected)
}
