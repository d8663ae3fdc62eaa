import { randomBytes, randomInt } from 'node:crypto'
import type { createRequests } from '../upgrade/requests.js'
import type { Call } from '../upgrade/traffic.js'

/** The values of a configuration that a read is compared with; null: the tenant has none. */
type Values = { callback_url: string, verify_token: string, waba_id: string, access_token: string } | null

/** The answer of a request. */
export interface Reply { status: number, text: string }

/** A request, and what its answer must be. */
export interface Step {
  call: Call
  /** Returns the fault of an answer below 500; undefined for none. */
  judge: (reply: Reply) => string | undefined
  /** Records that the outcome of a request is unknown. */
  lose: () => void
}

/** A tenant that has at most one request at a time, and the values that it may have. */
export interface Tenant { name: string, next: () => Step }

const FIELDS = ['callback_url', 'verify_token', 'waba_id', 'access_token'] as const

/** Creates a tenant whose requests read and write its configuration. */
export function createTenant (name: string, { call }: ReturnType<typeof createRequests>): Tenant {
  // Several only after a write whose outcome is unknown.
  let possible: Values[] = [null]

  return {
    name,
    next () {
      const kind = randomInt(20)
      const exists = possible.every((values) => values !== null)
      if (possible.length === 1 && !exists) return kind < 5 ? read('/config') : write('POST', [201], randomValues())
      if (kind < 5) return write('PUT', exists ? [200] : [200, 404], randomValues())
      if (kind === 5) return write('DELETE', exists ? [204] : [204, 404], null)
      return read(kind < 10 ? '/config' : kind < 16 ? '/config/full' : '/config/effective')
    }
  }

  function write (method: string, statuses: number[], values: Values): Step {
    const before = possible
    return {
      call: call(method, '/config', name, values ?? undefined),
      judge (reply) {
        if (!statuses.includes(reply.status)) return `${method} answered ${reply.status}`
        // A PUT or DELETE of an absent configuration changes nothing.
        possible = [reply.status === 404 ? null : values]
        return values === null || reply.status === 404 ? undefined : fault(reply, 'masked', possible)
      },
      lose () { possible = [...before, values] }
    }
  }

  function read (path: '/config' | '/config/full' | '/config/effective'): Step {
    const kind = path === '/config' ? 'masked' : path === '/config/full' ? 'full' : 'effective'
    return { call: call('GET', path, name), judge: (reply) => fault(reply, kind, possible), lose () {} }
  }

  function fault ({ status, text }: Reply, kind: Kind, expected: Values[]): string | undefined {
    if (status === 404) return expected.includes(null) ? undefined : 'no configuration, but it was acknowledged'
    if (status !== 200 && status !== 201) return `answered ${status} ${text.slice(0, 200)}`
    const body: Record<string, unknown> = JSON.parse(text)
    if (body['tenant_id'] !== name) return `has the tenant ${String(body['tenant_id'])}`
    const found = valuesOf(kind, body)
    const isExpected = expected.some((values) => FIELDS.every((field) => found(field) === shown(kind, values, field)))
    return isExpected ? undefined : `has values that were not acknowledged: ${text.slice(0, 300)}`
  }
}

type Kind = 'masked' | 'full' | 'effective'

function randomValues (): Values {
  const word = () => randomBytes(16).toString('hex')
  return { callback_url: `https://${word()}.example.com/`, verify_token: word(), waba_id: word(), access_token: word() }
}

function valuesOf (kind: Kind, body: Record<string, unknown>): (field: string) => unknown {
  if (kind !== 'effective') return (field) => body[field]
  const values: Record<string, { value: unknown } | undefined> = Object(body['values'])
  return (field) => values[field]?.value
}

/** A value as an answer shows it. */
function shown (kind: Kind, values: Values, field: typeof FIELDS[number]): unknown {
  const value = values?.[field]
  // The platform has no values of its own, so an absent row serves nothing.
  if (value === undefined) return null
  return kind !== 'full' && (field === 'access_token' || field === 'verify_token') ? `****${value.slice(-4)}` : value
}
