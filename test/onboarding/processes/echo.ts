import { createServer } from 'node:http'
import type { Test } from 'tap'

/** A callback that answers Meta's verification; returns its URL. */
export async function echo (t: Test): Promise<string> {
  const server = createServer((req, res) => {
    res.end(new URL(req.url ?? '', 'http://localhost').searchParams.get('hub.challenge'))
  })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const address = server.address()
  return `http://127.0.0.1:${typeof address === 'object' ? address?.port : address}/hook`
}
