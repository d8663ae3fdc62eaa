import assert from 'node:assert'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { isIPv6 } from 'node:net'
import type { FastifyBaseLogger } from 'fastify'
import type { Registry } from 'prom-client'

/** Bounds what anybody who reaches the port can open. */
const MAX_CONNECTIONS = 50
/** For a request to arrive. */
const REQUEST_TIMEOUT_MS = 10_000

interface ListenerDependencies {
  registry: Pick<Registry, 'metrics' | 'contentType'>
  host: string
  port: number
  log: Pick<FastifyBaseLogger, 'error'>
}

/** Serves the metrics under `/metrics` on a port of their own, and nothing else. */
export function createMetricsListener ({ registry, host, port, log }: ListenerDependencies) {
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    answer(request, response).catch((err: unknown) => {
      log.error({ err }, 'the metrics could not be collected')
      response.writeHead(500).end()
    })
  })
  server.maxConnections = MAX_CONNECTIONS

  return {
    /**
     * Starts to listen.
     *
     * @returns the URL of the metrics
     * @throws an error for a person when the address or the port cannot be used
     */
    async open (): Promise<string> {
      await new Promise<void>((resolve, reject) => {
        // It stays: an error that nobody handles would end the process.
        server.on('error', ({ message }) => {
          reject(new Error(`The metrics cannot be served: ${message}. ` +
            'Set METRICS_HOST and METRICS_PORT to an address of this machine and a free port.'))
        })
        server.listen(port, host, resolve)
      })
      const address = server.address()
      assert(typeof address === 'object' && address !== null)
      return `http://${isIPv6(address.address) ? `[${address.address}]` : address.address}:${address.port}/metrics`
    },

    /** Ends all connections. */
    async close (): Promise<void> {
      server.closeAllConnections()
      await new Promise<void>((resolve) => { server.close(() => { resolve() }) })
    }
  }

  async function answer ({ method, url }: IncomingMessage, response: ServerResponse): Promise<void> {
    const isKnown = url?.split('?', 1).join() === '/metrics'
    if (!isKnown || (method !== 'GET' && method !== 'HEAD')) {
      response.writeHead(isKnown ? 405 : 404, { allow: 'GET, HEAD' }).end()
      return
    }
    const body = await registry.metrics()
    response.writeHead(200, { 'content-type': registry.contentType, 'cache-control': 'no-store' }).end(body)
  }
}
