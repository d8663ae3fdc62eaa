import { createHmac } from 'node:crypto'
import type { FastifyError } from '@fastify/error'
import { type Static, type TSchema, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import {
  type ErrorClass, MetaAppRejected, MetaPhoneNotInWaba, MetaTimeout, MetaTokenInvalid, MetaUnavailable, MetaUnexpectedReply,
  MetaWabaNotAccessible
} from '../errors.js'
import { ErrorReply, metaErrorFor, type Standing } from './meta-errors.js'

declare module 'fastify' {
  interface FastifyInstance { metaGraph: MetaGraph }
}

export interface MetaApp { id: string, secret: string }

interface Call { name: string, on: Standing }
interface Get extends Call { app: MetaApp, token: string, path: string, query: Record<string, string> }

const MAX_BODY_BYTES = 1024 * 1024
const MAX_PAGES = 50
const LAST_SECOND_OF_9999 = 253402300799

// A bearer header carries no more than this, and fetch would call the rest a network failure.
const Token = Type.String({ pattern: '^[!-~]{1,4096}$' })

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

export type MetaGraph = ReturnType<typeof createMetaGraph>

/**
 * The calls of Meta's Graph API that onboarding needs. No code is ever sent twice, no redirect is followed, and no error or
 * log line carries a secret, Meta's words or a query string.
 *
 * @param deps.baseUrl such as https://graph.facebook.com
 * @param deps.version such as v26.0
 * @param deps.timeoutMs milliseconds each call may take, reading its body included
 * @param deps.log pino-like; gets one line per failed call
 */
export function createMetaGraph ({ baseUrl, version, timeoutMs, fetch, log }: {
  baseUrl: string
  version: string
  timeoutMs: number
  fetch: typeof globalThis.fetch
  log?: { warn (fields: object, message: string): void }
}) {
  const base = `${baseUrl.replace(/\/$/, '')}/${version}`

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
    const bytes = Buffer.from(String(form))
    // Meta documents a GET. The form keeps the secret and the code out of the URL, which proxies log.
    const reply = await send({ name: 'exchange_code', on: 'code' }, 'oauth/access_token', {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded', 'content-length': String(bytes.length) },
      // A stream, because fetch sends every other body once more when the answer is 421.
      body: new Blob([bytes]).stream(),
      duplex: 'half'
    }, ExchangeReply)
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
    const { data } = await get({
      ...call, app, token: `${app.id}|${app.secret}`, path: 'debug_token', query: { input_token: token }
    }, InspectReply)
    if (!data.is_valid || data.app_id !== app.id) {
      throw failure(call, MetaTokenInvalid, { status: 200, meta_code: number(data.error?.code), meta_subcode: number(data.error?.subcode) })
    }
    return { expires_at: data.expires_at == null ? undefined : isoTime(data.expires_at) }
  }

  /**
   * Proves that the customer's token sees the WABA and that the phone number belongs to it.
   * Source: developers.facebook.com/docs/graph-api/reference/whats-app-business-account/phone_numbers
   *
   * @throws MetaWabaNotAccessible, MetaPhoneNotInWaba, MetaPermissionMissing, MetaTokenInvalid, MetaAppRejected,
   * MetaRateLimited, MetaUnavailable, MetaTimeout, MetaUnexpectedReply
   */
  async function assertPhoneNumber (app: MetaApp, token: string, wabaId: string, phoneNumberId: string): Promise<void> {
    const call: Call = { name: 'phone_numbers', on: 'customer' }
    // No encoding saves these from being read as a step in the path.
    if (/^\.{0,2}$/.test(wabaId)) throw failure(call, MetaWabaNotAccessible, {})
    const path = `${encodeURIComponent(wabaId)}/phone_numbers`
    const query: Record<string, string> = { fields: 'id', limit: '100' }
    for (let page = 0; page < MAX_PAGES; page++) {
      const { data, paging } = await get({ ...call, app, token, path, query }, PhonesReply)
      if (data.some((phone) => phone.id === phoneNumberId)) return
      // `after` is there on the last page too; `next` is not. It carries the token, and is never followed.
      if (paging?.next == null) throw failure(call, MetaPhoneNotInWaba, { status: 200 })
      if (!paging.cursors?.after) break
      query.after = paging.cursors.after
    }
    throw failure(call, MetaUnexpectedReply, { status: 200 })
  }

  function get<T extends TSchema> ({ app, token, path, query, ...call }: Get, schema: T): Promise<Static<T>> {
    if (!Value.Check(Token, token)) throw failure(call, call.on === 'app' ? MetaAppRejected : MetaTokenInvalid, {})
    // developers.facebook.com/docs/graph-api/guides/secure-requests
    const proof = createHmac('sha256', app.secret).update(token).digest('hex')
    const search = new URLSearchParams({ ...query, appsecret_proof: proof })
    return send(call, `${path}?${search}`, { headers: { authorization: `Bearer ${token}` } }, schema)
  }

  async function send<T extends TSchema> (call: Call, path: string, init: RequestInit, schema: T): Promise<Static<T>> {
    const signal = AbortSignal.timeout(timeoutMs)
    let reply: Response
    let body: unknown
    try {
      reply = await fetch(`${base}/${path}`, { ...init, redirect: 'manual', signal })
      body = await readJson(reply)
    } catch (err) {
      throw failure(call, signal.aborted ? MetaTimeout : MetaUnavailable, { reason: causeOf(err) })
    }
    if (reply.ok && Value.Check(schema, body)) return body

    const error = Value.Check(ErrorReply, body) ? body.error : undefined
    throw failure(call, metaErrorFor(call.on, reply.status, error), {
      status: reply.status,
      meta_code: error?.code,
      meta_subcode: number(error?.error_subcode),
      fbtrace_id: word(error?.fbtrace_id),
      graph_version: word(reply.headers.get('facebook-api-version'))
    })
  }

  function failure (call: Call, Failure: ErrorClass, seen: object): FastifyError {
    const error = new Failure()
    log?.warn({ call: call.name, outcome: error.code, ...seen }, 'a call of the Graph API failed')
    return error
  }
}

/** The body as JSON; undefined when it is none, or larger than MAX_BODY_BYTES. */
async function readJson (reply: Response): Promise<unknown> {
  const stream: AsyncIterable<Uint8Array> | Uint8Array[] = reply.body ?? []
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of stream) {
    size += chunk.byteLength
    // Leaving the loop cancels the stream.
    if (size > MAX_BODY_BYTES) return undefined
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString())
  } catch {
    return undefined
  }
}

/** Unix seconds as ISO 8601 UTC; null for 0, which is Meta's never, and for what lies beyond any calendar. */
function isoTime (seconds: number): string | null {
  return seconds === 0 || seconds > LAST_SECOND_OF_9999 ? null : new Date(seconds * 1000).toISOString()
}

/** What the operating system or TLS calls it, such as ECONNREFUSED; fetch says no more than "fetch failed". */
function causeOf (err: unknown): unknown {
  return err instanceof Error && err.cause instanceof Error && 'code' in err.cause ? err.cause.code : undefined
}

function number (value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined
}

/* What is logged of a reply is an id or a version by its looks, never a sentence that may quote what we sent. */
function word (value: unknown): string | undefined {
  return typeof value === 'string' && /^[\w.+/=-]{1,30}$/.test(value) ? value : undefined
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
