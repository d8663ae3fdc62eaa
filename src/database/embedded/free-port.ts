import assert from 'node:assert'
import { once } from 'node:events'
import { createServer } from 'node:net'

/** Returns a TCP port of loopback that was free a moment ago; whoever binds it must be ready to find it taken. */
export async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert(typeof address === 'object' && address !== null)
  server.close()
  return address.port
}
