import { Type, type Static } from '@sinclair/typebox'
import {
  callbackRefused, GraphError, registerCodes, registerRefused, temporarilyDown, throttled, tokenRefused, tokenSubcodes,
  withTexts, type Json
} from '../errors.js'
import { faults, merge, routes, type Fault, type Route } from '../faults.js'
import { usageHeaders } from '../usage.js'
import { validate } from './validate.js'

const only = { additionalProperties: false }

export const UsageJson = Type.Object({
  app: Type.Optional(Type.Integer({ minimum: 0 })),
  business: Type.Optional(Type.Integer({ minimum: 0 })),
  waba_id: Type.Optional(Type.String()),
  regain_minutes: Type.Optional(Type.Integer({ minimum: 0 }))
}, only)

const Parameters = {
  status: Type.Optional(Type.Integer({ minimum: 200, maximum: 599 })),
  code: Type.Optional(Type.Integer()),
  subcode: Type.Optional(Type.Integer()),
  message: Type.Optional(Type.String()),
  location: Type.Optional(Type.String())
}

const FaultJson = Type.Object({
  route: Type.String(),
  fault: Type.Optional(Type.String()),
  ...Parameters,
  latency_ms: Type.Optional(Type.Integer({ minimum: 0 })),
  processed: Type.Optional(Type.Boolean()),
  patch: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  without: Type.Optional(Type.Array(Type.String())),
  headers: Type.Optional(Type.Record(Type.String(), Type.String())),
  usage: Type.Optional(UsageJson),
  times: Type.Optional(Type.Union([Type.Integer({ minimum: 1 }), Type.Literal('always')]))
}, only)

type Given = Partial<Static<typeof FaultJson>>

const named = new Map(Object.entries<(given: Given) => Fault>({
  dropBefore: () => faults.dropBefore,
  dropAfter: () => faults.dropAfter,
  badGateway: () => faults.badGateway,
  unreadable: () => faults.unreadable,
  withoutExpiry: () => faults.withoutExpiry,
  withoutToken: () => faults.withoutToken,
  extraFields: () => faults.extraFields,
  unknownEnums: () => faults.unknownEnums,
  otherOrder: () => faults.otherOrder,
  oddTypes: () => faults.oddTypes,
  numericTargets: () => faults.numericTargets,
  oversized: () => faults.oversized,
  redirect: ({ location = 'https://elsewhere.example/' }) => faults.redirect(location),
  down: ({ status }) => ({ reply: temporarilyDown(status) }),
  throttled: ({ code = 80007 }) => ({
    reply: throttled(oneOf('code', [4, 80007, 80008] as const, code)),
    headers: usageHeaders(code === 4 ? { app: 100 } : { business: 100, regain_minutes: 5 })
  }),
  tokenRefused: ({ subcode, status = 401 }) => ({
    reply: tokenRefused(subcode === undefined ? undefined : oneOf('subcode', tokenSubcodes, subcode), status)
  }),
  registerRefused: ({ code }) => ({ reply: registerRefused(oneOf('code', registerCodes, code)) }),
  callbackRefused: ({ message }) => ({ reply: callbackRefused(message) }),
  error: given => ({ reply: errorOf(given) }),
  oddError: given => ({ reply: withTexts(errorOf(given)) }),
  bareError: () => faults.bareError
}))

/** The names that a fault may have in JSON. */
export const faultNames = [...named.keys()]

/**
 * Reads a fault from JSON, such as `{"route": "access_token", "fault": "dropAfter"}`. Further members:
 * - of any fault: `latency_ms`, `headers`, `usage` (`{app, business, waba_id, regain_minutes}`), `times` (a number or
 * "always"), `processed` (the request takes effect although it is dropped or refused)
 * - without `fault`, to change the usual answer: `patch` (merged in), `without` (removed members, such as
 * "data.expires_at")
 * - of `down`: `status`; `throttled`: `code` 4, 80007 or 80008; `tokenRefused`: `subcode`, `status`;
 * `registerRefused`: `code`; `callbackRefused`: `message`; `redirect`: `location`; `error`, `oddError`: `status`,
 * `code`, `subcode`, `message`
 * @throws an error that names the invalid member
 */
export function faultFrom (json: unknown): { route: Route, fault: Fault } {
  const given = validate(FaultJson, json)
  const { fault: name, latency_ms, processed, patch, without, headers, usage, times = 1 } = given
  const base: Fault = name === undefined ? {} : made(name, given)
  return {
    route: oneOf('route', routes, given.route),
    fault: {
      ...base,
      latency_ms,
      processed: processed ?? base.processed,
      patch: patch || without
        ? (without ?? []).reduce(
            (all, path) => merge(all, absent(path)),
            patch ?? {}
          )
        : base.patch,
      headers: { ...base.headers, ...usageHeaders(usage ?? {}), ...headers },
      times: times === 'always' ? Infinity : times
    }
  }
}

function errorOf ({ status = 400, code = 100, subcode, message = `(#${code}) As you wished` }: Given): GraphError {
  return new GraphError(status, code, message, subcode === undefined ? {} : { error_subcode: subcode })
}

function made (name: string, given: Given): Fault {
  const make = named.get(name)
  if (!make) throw new Error(`fault: must be one of ${faultNames.join(', ')}`)
  return make(given)
}

function oneOf<T> (name: string, allowed: readonly T[], value: unknown): T {
  const found = allowed.find(one => one === value)
  if (found === undefined) throw new Error(`${name}: must be one of ${allowed.join(', ')}`)
  return found
}

/** The patch that removes the member at a path. */
function absent (path: string): Json {
  const [first = '', ...rest] = path.split('.')
  return { [first]: rest.length > 0 ? absent(rest.join('.')) : undefined }
}
