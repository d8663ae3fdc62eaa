import type { LookupFunction } from 'node:net'
import { unescape } from 'node:querystring'
import { EnvHttpProxyAgent, fetch as undiciFetch } from 'undici'
import { isLoopbackHost } from '../settings/loopback.js'
import type { Fetch, Outbound } from './outbound.js'
import { ProxyPool } from './tunnel.js'

interface ProxyOptions {
  /** The setting HTTPS_PROXY. */
  proxy: string
  /** The setting NO_PROXY. */
  noProxy: string
}

/** Creates the way through the proxy for https, except to loopback and the hosts of `noProxy`. */
export function createProxied ({ proxy, noProxy }: ProxyOptions): Outbound {
  const agents: EnvHttpProxyAgent[] = []

  return {
    fetch: through(createAgent()),

    fetchWith: (url, lookup) => isDirect(url) ? undefined : through(createAgent(lookup)),

    async close () {
      await Promise.all(agents.map(async (agent) => { await agent.destroy() }))
    }
  }

  function createAgent (lookup?: LookupFunction): EnvHttpProxyAgent {
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
function through (dispatcher: EnvHttpProxyAgent): Fetch {
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
