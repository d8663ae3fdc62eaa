import { randomBytes, randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Graph } from '../graph/server.js'
import type { createRequests } from '../upgrade/requests.js'
import { send, type Call } from '../upgrade/traffic.js'

/** Tenants whose secrets are written and read during the rotation. */
const WRITERS = 8
/** Tenants that log in at Meta again and again. */
const CUSTOMERS = 4
/** Between two requests of a tenant: the rotation needs some of the machine, too. */
const PAUSE_MS = 10
/** An instance that is busy or closing has executed nothing, and asks for a repetition. */
const REPEATED = /"code":"(OVERLOADED|SERVICE_CLOSING)"/

type Requests = ReturnType<typeof createRequests>

/** The secrets that a tenant must have. */
type Secrets = Record<'access_token' | 'verify_token', string>

/** How often requests were answered, and those that failed or returned another secret than the stored one. */
export interface LoadResult { requests: number, faults: string[] }

/**
 * Starts requests of tenants, each with one at a time: writes of secrets, reads of what was written, and logins.
 *
 * @param origins the services; may change
 */
export function startLoad (origins: string[], requests: Requests, meta: Graph) {
  const stopped = new AbortController()
  const result: LoadResult = { requests: 0, faults: [] }
  const stored = new Map<string, Secrets>()
  const working = [
    ...Array.from({ length: WRITERS }, async (_, number) => { await write(`writer-${number}`) }),
    ...Array.from({ length: CUSTOMERS }, async (_, number) => { await logIn(`customer-${number}`) })
  ]

  return {
    /** The secrets of the tenants that write; complete after `stop`. */
    stored,

    async stop (): Promise<LoadResult> {
      stopped.abort()
      await Promise.all(working)
      return result
    }
  }

  async function write (tenant: string): Promise<void> {
    let secrets = newSecrets()
    await request(requests.call('POST', '/config', tenant, secrets), 201)
    while (!stopped.signal.aborted) {
      const changed = randomInt(3) === 0 ? newSecrets() : { verify_token: newSecrets().verify_token }
      await request(requests.call('PUT', '/config', tenant, changed), 200)
      secrets = { ...secrets, ...changed }
      stored.set(tenant, secrets)
      const config = await request(requests.call('GET', '/config/full', tenant), 200)
      for (const [name, secret] of Object.entries(secrets)) {
        if (config[name] !== secret) result.faults.push(`${tenant} has another ${name} than was written`)
      }
    }
  }

  async function logIn (tenant: string): Promise<void> {
    const login = requests.login(tenant)
    await request(login, 201)
    while (!stopped.signal.aborted) {
      // The same number with a new code: the service compares the former token with the stored one.
      const code = meta.state.issueCode({ app_id: requests.settings.FB_APP_ID })
      const config = await request({ ...login, body: { ...login.body, code } }, 200)
      if (config['onboarding_completed'] !== true) result.faults.push(`${tenant} is not onboarded`)
      const { access_token: token } = await request(requests.call('GET', '/config/full', tenant), 200)
      if (!meta.state.tokens.has(String(token))) result.faults.push(`${tenant} has another token than Meta's`)
    }
  }

  async function request (call: Call, expected: number): Promise<Record<string, unknown>> {
    await delay(PAUSE_MS)
    const origin = origins[result.requests++ % origins.length] ?? ''
    const { status, text } = await send(origin, call)
    if (status === expected) return JSON.parse(text)
    if (status === 503 && REPEATED.test(text)) return await request(call, expected)
    result.faults.push(`${call.method} ${call.path}: ${status} ${text.slice(0, 200)}`)
    return {}
  }
}

const newSecrets = (): Secrets => ({
  access_token: `EAAG${randomBytes(24).toString('hex')}`, verify_token: randomBytes(16).toString('hex')
})
