import { setTimeout as delay } from 'node:timers/promises'
import { signed } from '../fixtures/server-process.js'

const PATH = '/api/v1/tenant/config'
/** Milliseconds between two requests of a client: the requests of a tenant stay below its limit. */
const PACE_MS = 30

interface Answer { status: number, body: Record<string, unknown> }

export interface TenantClient {
  send: (method: string, body?: object, headers?: Record<string, string>) => Promise<Answer>
}

/** A tenant that calls the service at `origin`, with a token of `secret`. */
export function tenantClient (origin: string, tenant: string, secret: string): TenantClient {
  const authorization = `Bearer ${signed({ tenant_id: tenant }, secret)}`
  return {
    async send (method, body, headers = {}) {
      const response = await fetch(`${origin}${PATH}`, {
        method,
        headers: { authorization, 'content-type': 'application/json', ...headers },
        ...body === undefined ? {} : { body: JSON.stringify(body) }
      })
      return { status: response.status, body: Object(await response.json().catch(() => ({}))) }
    }
  }
}

export interface Traffic {
  /** The answers so far. */
  answers: Array<{ method: string, status: number, code: unknown }>
  /** Waits for the requests in progress; returns the method, the status and our code of each that failed. */
  end: () => Promise<string[]>
}

/** Three clients that send one request after the other: two read, one writes. */
export function startTraffic ({ send }: TenantClient): Traffic {
  const answers: Traffic['answers'] = []
  const ending = new AbortController()
  async function repeat (method: string): Promise<void> {
    for (let count = 0; !ending.signal.aborted; count++) {
      const body = method === 'PUT' ? { callback_url: `https://example.com/${count}` } : undefined
      const { status, body: { code } } = await send(method, body)
      answers.push({ method, status, code })
      await delay(PACE_MS)
    }
  }
  const clients = Promise.all(['GET', 'GET', 'PUT'].map(repeat))
  return {
    answers,
    async end () {
      ending.abort()
      await clients
      const failures = answers.filter(({ status }) => status !== 200)
      return failures.map(({ method, status, code }) => `${method} ${status} ${String(code)}`)
    }
  }
}
