import { OTHER, own, repeated, type OtherValues, type World } from './world.js'

interface Parameter { $ref?: string, name: string, in: 'path' | 'query' | 'header' }

interface Operation {
  operationId: string
  parameters?: Parameter[]
  requestBody?: { content: Record<string, { schema: Schema }> }
  security: Array<Record<string, unknown>>
}

interface Schema { $ref?: string, properties?: Record<string, unknown> }

/** The OpenAPI document of the service. */
export interface Document {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Schema> }
}

/** An operation, with the places where a request names something. */
export interface Target {
  id: string
  method: string
  path: string
  parameters: Parameter[]
  /** The members of the body; undefined for an operation without one. */
  members: string[] | undefined
  /** What it accepts: `bearer`, `serviceKey`. */
  accepts: string[]
}

export interface Request {
  method: string
  url: string
  headers: Record<string, string>
  body?: object | undefined
}

/** What names nothing of a tenant. Any other place of a request needs values of the other tenant. */
const nameless = [
  'limit', 'is_active', 'onboarding_completed', 'token_status', 'unsubscribe', 'force', 'purge', 'confirm', 'action',
  'outcome', 'from', 'to', 'pin', 'config_id', 'name', 'scopes', 'expires_at', 'token_expires_at'
]

/** The bodies of operations that refuse an empty one. */
const bodies: Record<string, (world: World) => object> = {
  createConfig: () => own,
  updateConfig: () => own,
  onboardWhatsappClient: ({ code }) => ({ code: code(), ...own, pin: '190285' }),
  startOnboarding: () => ({ redirect_uri: 'https://a.example/cb' }),
  restoreConfigs: () => ({ tenant_id: OTHER }),
  createServiceKey: () => ({ name: 'x', scopes: ['credentials:read'] })
}

/** Names of the other tenant where no operation looks for any. */
const undeclared = {
  headers: {
    'x-tenant-id': OTHER,
    'tenant-id': OTHER,
    tenant_id: OTHER,
    'x-forwarded-user': OTHER,
    'x-http-method-override': 'DELETE',
    cookie: `tenant_id=${OTHER}`
  },
  query: { tenant_id: OTHER },
  body: { tenant_id: OTHER }
}

/** Lists the operations of a document. */
export function targetsOf ({ paths, components }: Document): Target[] {
  return Object.entries(paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => {
    const { operationId: id, parameters = [], requestBody, security } = operation
    const schema = Object.values(requestBody?.content ?? {})[0]?.schema
    const resolved = schema?.$ref === undefined ? schema : components.schemas[String(schema.$ref.split('/').at(-1))]
    return {
      id,
      method: method.toUpperCase(),
      path,
      parameters,
      members: resolved && Object.keys(resolved.properties ?? {}),
      accepts: security.flatMap((scheme) => Object.keys(scheme))
    }
  }))
}

/** The places of an operation that need values of the other tenant, but have none. */
export const placesWithoutValues = ({ parameters, members = [] }: Target, values: OtherValues): string[] =>
  [...parameters.map(({ name }) => name), ...members]
    .filter((name) => !nameless.includes(name) && (values[name] ?? []).length === 0)

/** Makes requests to an operation, with its own body unless another is given. */
function requestTo ({ id, method, path, members }: Target, values: OtherValues, world: World) {
  return ({ headers = {}, query = {}, names = {}, body = {} }: Partial<Named>): Request => {
    const search = new URLSearchParams()
    for (const [name, value] of Object.entries(query)) search.append(name, String(value))
    const url = path.replaceAll(/\{(\w+)\}/g, (_, name) =>
      encodeURIComponent(String(names[name] ?? values[name]?.[0])))
    const whole = { ...members === undefined ? {} : bodies[id]?.(world), ...body }
    return {
      method,
      url: search.size === 0 ? url : `${url}?${search}`,
      headers,
      body: Object.keys(whole).length === 0 ? undefined : whole
    }
  }
}

/** What a request names: in headers, query, path and body. */
interface Named {
  headers: Record<string, string>
  query: Record<string, unknown>
  names: Record<string, unknown>
  body: object
}

/** Makes the request that names nothing of the other tenant but in its path. */
export const plainRequestsOf = (target: Target, values: OtherValues, world: World): Request[] =>
  [requestTo(target, values, world)({})]

/**
 * Makes the requests to an operation: the plain one, and for each place one with each value of the other tenant. They
 * are made anew for each world, since a code works once.
 */
export function requestsOf (target: Target, values: OtherValues, world: World): Request[] {
  const { id, method, parameters, members = [] } = target
  const request = requestTo(target, values, world)
  const each = (names: string[], named: (name: string, value: unknown) => Partial<Named>) =>
    names.flatMap((name) => (values[name] ?? []).map((value) => request(named(name, value))))
  const namesIn = (place: Parameter['in']) => parameters.filter((parameter) => parameter.in === place)
    .map(({ name }) => name)
  const all = Object.fromEntries(members.flatMap((name) => values[name] === undefined ? [] : [[name, values[name][0]]]))
  const again = Object.entries(repeated).find(([name]) => name === id)?.[1]
  return [
    ...again === undefined
      ? []
      : [{ ...request({ headers: { 'idempotency-key': again.key } }), body: again.body }],
    ...plainRequestsOf(target, values, world),
    ...each(namesIn('path'), (name, value) => ({ names: { [name]: value } })),
    ...each(namesIn('query'), (name, value) => ({ query: { [name]: value } })),
    ...each(namesIn('header'), (name, value) => ({ headers: { [name]: String(value) } })),
    ...each(members, (name, value) => ({ body: { [name]: value } })),
    ...Object.keys(all).length < 2 ? [] : [request({ body: all })],
    request({ headers: undeclared.headers }),
    request({ query: undeclared.query }),
    ...method === 'GET' ? [] : [request({ body: undeclared.body })]
  ]
}
