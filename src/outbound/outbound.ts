import type { LookupFunction } from 'node:net'
import { unescape } from 'node:querystring'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { EnvHttpProxyAgent, fetch as undiciFetch } from 'undici'
import { isLoopbackHost } from '../settings/loopback.js'
import { ProxyPool } from './tunnel.js'

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

export type Outbound = ReturnType<typeof createOutbound>

interface OutboundOptions {
  /** The setting HTTPS_PROXY; undefined: every call is direct. */
  proxy: string | undefined
  /** The setting NO_PROXY. */
  noProxy: string | undefined
}

/** The way out of this machine: through the proxy for https, except to loopback and the hosts of `noProxy`. */
export function createOutbound ({ proxy, noProxy = '' }: OutboundOptions) {
  const agents: EnvHttpProxyAgent[] = []
  const direct: Fetch = fetch

  return {
    /** Node's own `fetch` without a proxy, and for what never uses one. */
    fetch: proxy === undefined ? direct : proxied(createAgent(proxy)),

    /**
     * Like `fetch`, but its direct connections use this lookup. Returns undefined for a URL that never uses a proxy:
     * the caller then connects by itself.
     */
    fetchWith (url: URL, lookup: LookupFunction): Fetch | undefined {
      return proxy === undefined || isDirect(url) ? undefined : proxied(createAgent(proxy, lookup))
    },

    /** Closes all connections of the agents. */
    async close (): Promise<void> {
      await Promise.all(agents.map(async (agent) => { await agent.destroy() }))
    }
  }

  function createAgent (proxy: string, lookup?: LookupFunction): EnvHttpProxyAgent {
    const { credentials, href } = withoutCredentials(new URL(proxy))
    const agent = new EnvHttpProxyAgent({
      httpsProxy: href,
      // An empty text: otherwise the agent would read the variables of the process.
      httpProxy: '',
      noProxy,
      clientFactory: (origin, options) => new ProxyPool(origin, options),
      ...credentials === ':' ? {} : { token: `Basic ${Buffer.from(credentials).toString('base64')}` },
      ...lookup === undefined ? {} : { connect: { lookup } }
    })
    agents.push(agent)
    return agent
  }
}

/** The agent must not get Node's own `fetch`: that one is of another version of undici. */
function proxied (dispatcher: EnvHttpProxyAgent): Fetch {
  return async (url, init) => {
    if (isDirect(new URL(url))) return await fetch(url, init)
    return await undiciFetch(url, { ...init, headers: Object.fromEntries(new Headers(init?.headers)), dispatcher })
  }
}

function isDirect ({ protocol, hostname }: URL): boolean {
  return protocol !== 'https:' || isLoopbackHost(hostname.replace(/^\[|\]$/g, ''))
}

/** The agent shows its URL in errors and when it is inspected. */
function withoutCredentials (url: URL): { credentials: string, href: string } {
  const credentials = unescape(`${url.username}:${url.password}`)
  url.username = url.password = ''
  return { credentials, href: url.href }
}

/** Decorates `fastify.outbound`. */
async function outbound (fastify: FastifyInstance): Promise<void> {
  const { HTTPS_PROXY: proxy, NO_PROXY: noProxy } = fastify.env
  const ways = createOutbound({ proxy, noProxy })
  fastify.decorate('outbound', ways)
  fastify.addHook('onClose', async () => { await ways.close() })
}

export default fp(outbound, { name: 'outbound', dependencies: ['env'] })
