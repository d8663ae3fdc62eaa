import type { Json } from '../errors.js'
import type { Route } from '../faults.js'
import type { GraphState } from '../state.js'
import { app, appSubscriptions } from './apps.js'
import { businessAccounts, businesses } from './businesses.js'
import { phone, waba } from './nodes.js'
import { messages } from './phones/messages.js'
import { changePhone } from './phones/phone-override.js'
import { deregister, register } from './phones/register.js'
import type { Call } from './tokens/auth.js'
import { debugToken } from './tokens/debug-token.js'
import { me } from './tokens/me.js'
import { accessToken, extend } from './tokens/token-endpoint.js'
import { phoneNumbers } from './wabas/phone-numbers.js'
import { override, subscribe, subscriptions, unsubscribe } from './wabas/subscribed-apps.js'

interface Entry {
  route: Route
  methods: string[]
  path: RegExp
  /** A further condition on the request; `id` is percent-encoded, as in the path. */
  when?: (params: URLSearchParams, id: string, state: GraphState) => boolean
  handle: (state: GraphState, call: Call) => Json | Promise<Json>
}

const SUBSCRIBED_APPS = /^\/([^/]+)\/subscribed_apps$/
const OBJECT = /^\/([^/]+)$/

// The first match applies.
const ROUTES: Entry[] = [
  {
    route: 'extend',
    methods: ['GET', 'POST'],
    path: /^\/oauth\/access_token$/,
    when: params => params.get('grant_type') === 'fb_exchange_token',
    handle: extend
  },
  { route: 'access_token', methods: ['GET', 'POST'], path: /^\/oauth\/access_token$/, handle: accessToken },
  { route: 'debug_token', methods: ['GET'], path: /^\/debug_token$/, handle: debugToken },
  { route: 'me', methods: ['GET'], path: /^\/me$/, handle: me },
  { route: 'businesses', methods: ['GET'], path: /^\/me\/businesses$/, handle: businesses },
  {
    route: 'business_accounts',
    methods: ['GET'],
    path: /^\/([^/]+)\/(?:owned|client)_whatsapp_business_accounts$/,
    handle: businessAccounts
  },
  { route: 'app_subscriptions', methods: ['GET'], path: /^\/([^/]+)\/subscriptions$/, handle: appSubscriptions },
  { route: 'phone_numbers', methods: ['GET'], path: /^\/([^/]+)\/phone_numbers$/, handle: phoneNumbers },
  { route: 'subscriptions', methods: ['GET'], path: SUBSCRIBED_APPS, handle: subscriptions },
  { route: 'unsubscribe', methods: ['DELETE'], path: SUBSCRIBED_APPS, handle: unsubscribe },
  {
    route: 'override',
    methods: ['POST'],
    path: SUBSCRIBED_APPS,
    when: params => Boolean(params.get('override_callback_uri')),
    handle: override
  },
  { route: 'subscribe', methods: ['POST'], path: SUBSCRIBED_APPS, handle: subscribe },
  { route: 'register', methods: ['POST'], path: /^\/([^/]+)\/register$/, handle: register },
  { route: 'deregister', methods: ['POST'], path: /^\/([^/]+)\/deregister$/, handle: deregister },
  { route: 'messages', methods: ['POST'], path: /^\/([^/]+)\/messages$/, handle: messages },
  { route: 'app', methods: ['GET'], path: OBJECT, when: (_, id, state) => state.apps.has(id), handle: app },
  { route: 'waba', methods: ['GET'], path: OBJECT, when: (_, id, state) => state.wabas.has(id), handle: waba },
  // Also for an unknown object: an id does not show its type.
  { route: 'phone', methods: ['GET'], path: OBJECT, handle: phone },
  {
    route: 'phone_override',
    methods: ['POST'],
    path: OBJECT,
    when: params => params.has('webhook_configuration') || params.has('pin'),
    handle: changePhone
  }
]

/** The route of a request, if any, and the id in its path, still percent-encoded. */
export function findRoute (state: GraphState, method: string, path: string, params: URLSearchParams) {
  for (const { route, methods, path: pattern, when, handle } of ROUTES) {
    const [, id = ''] = pattern.exec(path) ?? [undefined]
    if (methods.includes(method) && pattern.test(path) &&
      (when?.(params, id, state) ?? true)) return { route, handle, id }
  }
  return undefined
}
