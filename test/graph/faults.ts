import type { GraphError, Json } from './errors.js'

/** What can be asked, as `fail()` and the recorded requests name it. */
export const routes = [
  'access_token', 'extend', 'debug_token', 'me', 'waba', 'phone_numbers', 'phone',
  'phone_override', 'subscribe', 'override', 'subscriptions', 'unsubscribe', 'register', 'deregister', 'messages'
] as const

export type Route = typeof routes[number]

export interface Reply { status: number, headers?: Record<string, string>, body: string | Buffer }

/** How a request goes wrong. The parts may be combined. */
export interface Fault {
  /** Milliseconds to wait before the answer goes out; what the request does is done before. */
  latency_ms?: number
  /** Cut the connection in place of an answer. */
  drop?: boolean
  /** Send this in place of the answer. */
  reply?: GraphError | Reply
  /** With `drop` or `reply`: the request takes effect all the same (a code is burnt). Default false. */
  processed?: boolean
  /** Merged into the body of a success, deeply; `undefined` takes a member away. Or what makes another body of it. */
  patch?: Json | ((body: Json) => Json)
  /** Go with whatever answer is sent. */
  headers?: Record<string, string>
  /** How many requests it hits: default 1; Infinity for as long as it is not cleared. */
  times?: number
}

/** Ready-made faults. Anything else is a Fault of one's own. */
export const faults = {
  dropBefore: { drop: true },
  dropAfter: { drop: true, processed: true },
  badGateway: {
    reply: {
      status: 502,
      headers: { 'content-type': 'text/html' },
      body: '<html><body><h1>502 Bad Gateway</h1></body></html>'
    }
  },
  unreadable: { processed: true, reply: { status: 200, body: '{"access_token":"EAA' } },
  withoutExpiry: { patch: { expires_in: undefined } },
  withoutToken: { patch: { access_token: undefined } },
  extraFields: { patch: { future_field: { nested: [1, null, 'x'] } } },
  /** Every enum in the answer has a value that nobody knows yet. */
  unknownEnums: {
    patch: body => rewrite(
      body,
      value => typeof value === 'string' && /^[A-Z][A-Z_]+$/.test(value) ? 'NEW_IN_2030' : value
    )
  },
  /** Meta promises no order of the `target_ids`. */
  otherOrder: {
    patch: body => rewrite(
      body,
      (value, key) => key === 'target_ids' && Array.isArray(value) ? value.toReversed() : value
    )
  },
  oversized: { patch: { padding: 'x'.repeat(5_000_000) } },
  redirect: (location: string) => ({ reply: { status: 302, headers: { location }, body: '' } })
} satisfies Record<string, Fault | ((location: string) => Fault)>

/** The faults that wait for their requests: for each route, one after the other. */
export class FaultQueue {
  #waiting: Array<{ route: Route, fault: Fault, left: number }> = []

  add (route: Route, fault: Fault): void {
    this.#waiting.push({ route, fault, left: fault.times ?? 1 })
  }

  /** The fault for the next request of this route, if there is one; counts it as used. */
  take (route: Route): Fault | undefined {
    const entry = this.#waiting.find(waiting => waiting.route === route && waiting.left > 0)
    if (entry) entry.left--
    return entry?.fault
  }

  clear (): void {
    this.#waiting = []
  }
}

/** The body that a fault makes of a success. */
export function patched (body: Json, patch: Fault['patch'] = {}): Json {
  return typeof patch === 'function' ? patch(body) : merge(body, patch)
}

/** `body` with `patch` merged in, deeply where both have an object. */
export function merge (body: Json, patch: Json): Json {
  const merged: Json = { ...body }
  for (const [key, value] of Object.entries(patch)) {
    const old = body[key]
    merged[key] = isObject(old) && isObject(value) ? merge(old, value) : value
  }
  return merged
}

/** `body` with every value in it replaced, from the inside out. */
function rewrite (body: Json, change: (value: unknown, key: string) => unknown): Json {
  return JSON.parse(JSON.stringify(body), (key, value) => change(value, key))
}

function isObject (value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
