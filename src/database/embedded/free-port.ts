import assert from 'node:assert'
import { once } from 'node:events'
import { createServer } from 'node:net'

/** Finds a free TCP port of 127.0.0.1. Another process may bind it first. */
export async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert(typeof address === 'object' && address !== null)
  server.close()
  return address.port
}
