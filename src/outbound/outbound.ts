import type { LookupFunction } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance { outbound: Outbound }
}

/** The options of a call, with the bodies that Node's `fetch` and undici's agree on. */
export type CallInit = Omit<RequestInit, 'body' | 'headers'> & {
  headers?: Headers | Record<string, string>
  body?: string | ReadableStream<Uint8Array>
}

/** `fetch` for a URL. */
export type Fetch = (url: string | URL, init?: CallInit) => Promise<Response>

/** The way out of this machine. */
export interface Outbound {
  /** Node's own `fetch` without a proxy, and for what never uses one. */
  fetch: Fetch
  /**
   * Like `fetch`, but its direct connections use this lookup. Returns undefined for a URL that never uses a proxy: the
   * caller then connects by itself.
   */
  fetchWith: (url: URL, lookup: LookupFunction) => Fetch | undefined
  /** Closes all connections of the agents. */
  close: () => Promise<void>
}

interface OutboundOptions {
  /** The setting HTTPS_PROXY; undefined: every call is direct. */
  proxy: string | undefined
  /** The setting NO_PROXY. */
  noProxy: string | undefined
}

/** Creates the way out: direct, or through the proxy. Only that loads its library, which takes part of a start. */
export async function createOutbound ({ proxy, noProxy = '' }: OutboundOptions): Promise<Outbound> {
  if (proxy === undefined) return { fetch, fetchWith: () => undefined, close: async () => {} }
  const { createProxied } = await import('./proxied.js')
  return createProxied({ proxy, noProxy })
}

/** Decorates `fastify.outbound`. */
async function outbound (fastify: FastifyInstance): Promise<void> {
  const { HTTPS_PROXY: proxy, NO_PROXY: noProxy } = fastify.env
  const ways = await createOutbound({ proxy, noProxy })
  fastify.decorate('outbound', ways)
  fastify.addHook('onClose', async () => { await ways.close() })
}

export default fp(outbound, { name: 'outbound', dependencies: ['env'] })
