import { type TSchema, Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { MetaPhoneNotInWaba, MetaTokenInvalid, MetaUnexpectedReply, MetaWabaNotAccessible } from '../errors.js'
import { type Call, createTransport, Token, type TransportOptions } from './meta-transport.js'

declare module 'fastify' {
  interface FastifyInstance { metaGraph: MetaGraph }
}

/** An app at Meta: its id and its secret, in clear. */
export interface MetaApp { id: string, secret: string }

const MAX_PAGES = 50
const LAST_SECOND_OF_9999 = 253402300799

// Meta may write null for what it leaves out. To refuse that would waste the login, whose code is spent by then.
const Maybe = <T extends TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]))

const ExchangeReply = Type.Object({
  access_token: Token,
  expires_in: Maybe(Type.Number({ minimum: 0 }))
})
const InspectReply = Type.Object({
  data: Type.Object({
    is_valid: Type.Boolean(),
    app_id: Maybe(Type.String()),
    expires_at: Maybe(Type.Number({ minimum: 0 })),
    error: Maybe(Type.Object({ code: Type.Optional(Type.Unknown()), subcode: Type.Optional(Type.Unknown()) }))
  })
})
const PhonesReply = Type.Object({
  data: Type.Array(Type.Object({ id: Type.String() })),
  paging: Maybe(Type.Object({
    cursors: Maybe(Type.Object({ after: Maybe(Type.String()) })),
    next: Maybe(Type.String())
  }))
})

/** The calls; whatever one throws is an error of ours. */
export type MetaGraph = ReturnType<typeof createMetaGraph>

/** The calls of Meta's Graph API that onboarding needs. No code is ever sent twice. */
export function createMetaGraph (options: TransportOptions) {
  const { send, failure } = createTransport(options)

  return { exchangeCode, inspectToken, assertPhoneNumber }

  /**
   * Exchanges the code of a Meta login for an access token. A code works once, so what fails here needs a new login.
   * Source: developers.facebook.com/documentation/facebook-login/guides/advanced/manual-flow
   *
   * @param login.redirect_uri the login dialog's, passed on byte by byte; none for a code of the JavaScript SDK
   * @returns the token and when it expires by Meta's `expires_in` (ISO 8601 UTC; null: never, or Meta did not say)
   * @throws MetaCodeUsed, MetaCodeExpired, MetaCodeInvalid, MetaRedirectMismatch, MetaAppRejected, MetaRateLimited,
   * MetaUnavailable, MetaTimeout, MetaUnexpectedReply
   */
  async function exchangeCode (app: MetaApp, login: { code: string, redirect_uri?: string | undefined }) {
    const form = new URLSearchParams({ client_id: app.id, client_secret: app.secret, code: login.code })
    if (login.redirect_uri !== undefined) form.set('redirect_uri', login.redirect_uri)
    // Meta documents a GET. The form keeps the secret and the code out of the URL, which proxies log.
    const reply = await send({ name: 'exchange_code', on: 'code', method: 'POST', path: 'oauth/access_token', form }, ExchangeReply)
    const seconds = reply.expires_in
    return { access_token: reply.access_token, expires_at: seconds ? isoTime(Date.now() / 1000 + seconds) : null }
  }

  /**
   * Proves that a token is valid and was issued for the app.
   * Source: developers.facebook.com/docs/graph-api/reference/debug_token
   *
   * @returns when the token expires (ISO 8601 UTC; null: never; undefined: Meta did not say)
   * @throws MetaTokenInvalid, MetaAppRejected, MetaRateLimited, MetaUnavailable, MetaTimeout, MetaUnexpectedReply
   */
  async function inspectToken (app: MetaApp, token: string) {
    const call: Call = { name: 'debug_token', on: 'app' }
    const bearer = { token: `${app.id}|${app.secret}`, secret: app.secret }
    const { data } = await send({ ...call, method: 'GET', path: 'debug_token', query: { input_token: token }, bearer }, InspectReply)
    if (!data.is_valid || data.app_id !== app.id) {
      throw failure(call, MetaTokenInvalid, { status: 200, meta_code: data.error?.code, meta_subcode: data.error?.subcode })
    }
    return { expires_at: data.expires_at == null ? undefined : isoTime(data.expires_at) }
  }

  /**
   * Proves that the customer's token sees the WABA and that the phone number belongs to it. All pages together have the time of one call.
   * Source: developers.facebook.com/docs/graph-api/reference/whats-app-business-account/phone_numbers
   *
   * @throws MetaWabaNotAccessible, MetaPhoneNotInWaba, MetaPermissionMissing, MetaTokenInvalid, MetaAppRejected,
   * MetaRateLimited, MetaUnavailable, MetaTimeout, MetaUnexpectedReply
   */
  async function assertPhoneNumber (app: MetaApp, token: string, wabaId: string, phoneNumberId: string): Promise<void> {
    const call: Call = { name: 'phone_numbers', on: 'customer' }
    // No encoding saves these from being read as a step in the path.
    if (/^\.{0,2}$/.test(wabaId)) throw failure(call, MetaWabaNotAccessible)
    const path = `${encodeURIComponent(wabaId)}/phone_numbers`
    const query: Record<string, string> = { fields: 'id', limit: '100' }
    const signal = AbortSignal.timeout(options.timeoutMs)
    for (let page = 0; page < MAX_PAGES; page++) {
      const { data, paging } = await send({ ...call, method: 'GET', path, query, bearer: { token, secret: app.secret }, signal }, PhonesReply)
      if (data.some((phone) => phone.id === phoneNumberId)) return
      // `after` is there on the last page too; `next` is not. It carries the token, and is never followed.
      if (paging?.next == null) throw failure(call, MetaPhoneNotInWaba, { status: 200 })
      const after = paging.cursors?.after
      if (!after || after === query.after) break
      query.after = after
    }
    throw failure(call, MetaUnexpectedReply, { status: 200 })
  }
}

/** Unix seconds as ISO 8601 UTC; null for 0, which is Meta's never, and for what lies beyond any calendar. */
function isoTime (seconds: number): string | null {
  return seconds === 0 || seconds > LAST_SECOND_OF_9999 ? null : new Date(seconds * 1000).toISOString()
}

/** Decorates `fastify.metaGraph`. */
async function metaGraph (fastify: FastifyInstance): Promise<void> {
  const { GRAPH_API_BASE_URL, GRAPH_API_VERSION, GRAPH_TIMEOUT_MS } = fastify.env
  fastify.decorate('metaGraph', createMetaGraph({
    baseUrl: GRAPH_API_BASE_URL,
    version: GRAPH_API_VERSION,
    timeoutMs: GRAPH_TIMEOUT_MS,
    fetch,
    log: fastify.log
  }))
}

export default fp(metaGraph, { name: 'meta-graph', dependencies: ['env'] })
