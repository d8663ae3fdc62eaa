import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Test } from 'tap'

/** Starts a callback server with this handler until the test ends; returns its URL. */
export async function startCallback (
  t: Test,
  answer: (query: URLSearchParams, res: ServerResponse, req: IncomingMessage) => unknown
) {
  const origin = await listen(t, (req, res) => answer(queryOf(req), res, req))
  return `${origin}/hook?tenant=1`
}

const queryOf = ({ url = '' }: IncomingMessage) => new URL(url, 'http://localhost').searchParams

/** Starts a server with this handler until the test ends; returns its origin. */
export async function listen (
  t: Test, handler: (req: IncomingMessage, res: ServerResponse) => unknown
): Promise<string> {
  const server = createServer(handler)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return `http://127.0.0.1:${address.port}`
}
