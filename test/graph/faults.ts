import type { GraphError, Json } from './errors.js'

/** The names of the routes in `fail()` and in the recorded requests. */
export const routes = [
  'access_token', 'extend', 'debug_token', 'me', 'app', 'app_subscriptions', 'businesses', 'business_accounts', 'waba',
  'phone_numbers', 'phone', 'phone_override', 'subscribe', 'override', 'subscriptions', 'unsubscribe', 'register',
  'deregister', 'messages'
] as const

export type Route = typeof routes[number]

export interface Reply { status: number, headers?: Record<string, string>, body: string | Buffer }

/** A fault of a request. The members may be combined. */
export interface Fault {
  /** Milliseconds to wait before the answer; the request takes effect before. */
  latency_ms?: number
  /** Cut the connection instead of an answer. */
  drop?: boolean
  /** Send this instead of the answer. */
  reply?: GraphError | Reply
  /** With `drop` or `reply`: the request takes effect nevertheless (a code is used). Default false. */
  processed?: boolean
  /** Merged deeply into the body of a success (`undefined` removes a member), or a function that replaces the body. */
  patch?: Json | ((body: Json) => Json)
  /** Added to every answer, errors included. */
  headers?: Record<string, string>
  /** The number of affected requests: default 1; Infinity until the faults are cleared. */
  times?: number
}

/** Predefined faults. */
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
  /** Every enum in the answer has an unknown value. */
  unknownEnums: {
    patch: body => rewrite(
      body,
      value => typeof value === 'string' && /^[A-Z][A-Z_]+$/.test(value) ? 'NEW_IN_2030' : value
    )
  },
  /** Meta does not guarantee the order of the `target_ids`. */
  otherOrder: {
    patch: body => rewrite(
      body,
      (value, key) => key === 'target_ids' && Array.isArray(value) ? value.toReversed() : value
    )
  },
  /** Ids as JSON numbers, numbers and booleans as texts. */
  oddTypes: { patch: body => rewrite(body, swapType) },
  /** The ids of WABAs in a token as JSON numbers. */
  numericTargets: {
    patch: body => rewrite(
      body,
      (value, key) => key === 'target_ids' && Array.isArray(value) ? value.map(swapType) : value
    )
  },
  /** A refusal without any member. */
  bareError: { reply: { status: 400, body: '{"error":{}}' } },
  oversized: { patch: { padding: 'x'.repeat(5_000_000) } },
  redirect: (location: string) => ({ reply: { status: 302, headers: { location }, body: '' } })
} satisfies Record<string, Fault | ((location: string) => Fault)>

/** The queued faults of each route. */
export class FaultQueue {
  #waiting: Array<{ route: Route, fault: Fault, left: number }> = []

  add (route: Route, fault: Fault): void {
    this.#waiting.push({ route, fault, left: fault.times ?? 1 })
  }

  /** Returns the next fault of this route, if any, and counts it as used. */
  take (route: Route): Fault | undefined {
    const entry = this.#waiting.find(waiting => waiting.route === route && waiting.left > 0)
    if (entry) entry.left--
    return entry?.fault
  }

  clear (): void {
    this.#waiting = []
  }
}

/** The body of a success after a patch. */
export function patched (body: Json, patch: Fault['patch'] = {}): Json {
  return typeof patch === 'function' ? patch(body) : merge(body, patch)
}

/** `body` with `patch` merged in; objects are merged deeply. */
export function merge (body: Json, patch: Json): Json {
  const merged: Json = { ...body }
  for (const [key, value] of Object.entries(patch)) {
    const old = body[key]
    merged[key] = isObject(old) && isObject(value) ? merge(old, value) : value
  }
  return merged
}

/** `body` with every value replaced, innermost first. */
function rewrite (body: Json, change: (value: unknown, key: string) => unknown): Json {
  return JSON.parse(JSON.stringify(body), (key, value) => change(value, key))
}

/** A number or boolean as text, an id as number: a bigint, which keeps all its digits. */
function swapType (value: unknown): unknown {
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  return typeof value === 'string' && /^[1-9]\d*$/.test(value) ? BigInt(value) : value
}

function isObject (value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
