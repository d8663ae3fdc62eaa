import { createHmac } from 'node:crypto'
import type { FastifyError } from '@fastify/error'
import { type Static, type TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { MetaAppRejected, MetaExchangeUnknown, MetaRateLimited, MetaTimeout, MetaTokenInvalid, MetaUnavailable } from '../errors.js'
import { headerToken } from '../schemas/fields.js'
import { ErrorReply, limitScopeOf, type Subject, type MappedError, mapGraphError } from './error-map.js'
import type { MetaApp } from './meta-graph.js'
import { createRateLimits, type LimitSubject } from './rate-limits.js'

/** A call of the Graph API: its name in the log, and what it stands on. */
export interface Call { name: string, subject: Subject }

/** A call, and what it sends. */
export interface GraphRequest extends Call {
  /** The app it is made for; undefined when only the token is known, which then goes without a proof. */
  app: MetaApp | undefined
  /** The WABA it is about, whose limits it counts against. */
  account?: string | undefined
  /** The customer's token or code that it is about, where that is not `token`. */
  credential?: string
  /** Nobody has checked yet that the token is the app's: a refusal for a limit may be about another app's. */
  isTokenUnchecked?: true
  method: 'GET' | 'POST' | 'DELETE'
  /** What follows the version in the URL, percent-encoded. */
  path: string
  query?: Record<string, string>
  form?: Record<string, string>
  /** Sent in place of a form. */
  json?: object
  /** A token to be sent, which the secret of the app signs. */
  token?: string
  /** The limit of several calls together; without one, each has its own. */
  signal?: AbortSignal | undefined
}

/** What is known of a call that failed; ids and numbers only. */
export interface GraphErrorDetails {
  /** False only when nothing can have reached Meta: the connection never came about, or nothing was sent at all. */
  sent: boolean
  meta_code: number | null
  meta_subcode: number | null
  fbtrace_id: string | null
}

/** What was seen of a call that failed; not all of it is fit to be logged as it is. */
interface FailureContext {
  sent: boolean
  /** The HTTP status of the answer. */
  status?: number
  meta_code?: unknown
  meta_subcode?: unknown
  fbtrace_id?: unknown
  graph_version?: unknown
  /** What kept the answer from coming. */
  reason?: unknown
  /** Until when calls like it are blocked, as Unix ms. */
  blocked_until?: number
}

const detailsByError = new WeakMap<object, GraphErrorDetails>()

/** The facts of an error that a call of the Graph API threw; null for any other error. */
export function graphErrorDetails (err: unknown): GraphErrorDetails | null {
  return typeof err === 'object' && err !== null ? detailsByError.get(err) ?? null : null
}

/** Where calls go, how long they may take, and who is told of failures. */
export interface GraphClientOptions {
  /** Such as https://graph.facebook.com */
  baseUrl: string
  /** Such as v26.0 */
  version: string
  /** Milliseconds each call may take, reading its body included. */
  timeoutMs: number
  fetch: typeof globalThis.fetch
  /** No call begins once this is aborted: its reason is thrown instead. */
  closing?: AbortSignal
  /** Pino-like; gets one line per call. */
  log?: { info (fields: object, message: string): void, warn (fields: object, message: string): void }
}

const MAX_BODY_BYTES = 1024 * 1024

/** An access token. A bearer header carries no more than this, and fetch would call the rest a network failure. */
export const Token = headerToken(4096)

/** What sends the calls, and notes their failures. */
export type GraphClient = ReturnType<typeof createGraphClient>

/**
 * Sends calls to the Graph API, each once, and reads the answers. No redirect is followed, and no error or log line
 * carries a secret, Meta's words or a query string.
 */
export function createGraphClient ({ baseUrl, version, timeoutMs, fetch, closing, log }: GraphClientOptions) {
  const base = `${baseUrl.replace(/\/$/, '')}/${version}`
  const usage = createRateLimits()

  return { send, assertUnblocked, failCall, timeoutSignal, usage: usage.utilizationOf, blockedApps: usage.blockedApps }

  /** The time of one call, for several together. */
  function timeoutSignal (): AbortSignal {
    return AbortSignal.timeout(timeoutMs)
  }

  /** Throws MetaRateLimited when Meta takes no such call yet: one that is made all the same lengthens the block. */
  function assertUnblocked (call: Call & Pick<GraphRequest, 'app' | 'account' | 'credential' | 'token'>): void {
    const until = usage.blockedUntil(limitSubjectOf(call))
    if (until > 0) throw failCall(call, { throws: MetaRateLimited }, { sent: false, reason: 'blocked', blocked_until: until })
  }

  /**
   * Makes one call, unless Meta takes none.
   *
   * @param schema what a good answer looks like
   * @returns the answer's JSON
   * @throws MetaRateLimited and ServiceClosing with nothing sent, MetaTimeout, MetaUnavailable, MetaExchangeUnknown for a code,
   * MetaAppRejected or MetaTokenInvalid for a token no header can carry, and what `verdictFor` names
   */
  async function send<T extends TSchema> (request: GraphRequest, schema: T): Promise<Static<T>> {
    if (request.token !== undefined && !Value.Check(Token, request.token)) {
      throw failCall(request, { throws: request.subject === 'app' ? MetaAppRejected : MetaTokenInvalid }, { sent: false })
    }
    closing?.throwIfAborted()
    assertUnblocked(request)
    const url = `${base}/${pathWithQuery(request)}`
    const init = requestInit(request)
    const { signal = timeoutSignal() } = request
    let reply: Response
    let body: unknown
    try {
      reply = await fetch(url, { ...init, redirect: 'manual', signal })
      body = await readJson(reply)
    } catch (err) {
      const cause = err instanceof Error ? err.cause : undefined
      const sent = !neverConnected(cause)
      const throws = request.subject === 'code' && sent ? MetaExchangeUnknown : signal.aborted ? MetaTimeout : MetaUnavailable
      throw failCall(request, { throws }, { sent, reason: causeCode(cause) })
    }
    const error = Value.Check(ErrorReply, body) ? body.error : undefined
    const seen = limitSubjectOf(request)
    if (request.isTokenUnchecked && !reply.ok) delete seen.app
    usage.record(seen, reply.headers, limitScopeOf(reply.status, error))
    // Meta answers for an expired version with the oldest one it still serves, and says so nowhere else.
    const served = reply.headers.get('facebook-api-version')
    if (reply.ok && Value.Check(schema, body)) {
      log?.info({ call: request.name, graph_version: loggableWord(served) }, 'a call of the Graph API succeeded')
      return body
    }

    throw failCall(request, mapGraphError(request.subject, reply.status, error), {
      sent: true,
      status: reply.status,
      meta_code: error?.code,
      meta_subcode: error?.error_subcode,
      fbtrace_id: error?.fbtrace_id ?? reply.headers.get('x-fb-trace-id'),
      graph_version: served,
      blocked_until: usage.blockedUntil(limitSubjectOf(request))
    })
  }

  /**
   * Logs that a call failed. Returns the error to throw, with the advice as its member where there is one, and with
   * `retry_after` in seconds where it is MetaRateLimited.
   */
  function failCall (call: Call, { throws: Failure, advice }: MappedError, seen: FailureContext): FastifyError {
    const error = Object.assign(new Failure(), advice === undefined ? {} : { advice })
    if (error instanceof MetaRateLimited) Object.assign(error, { retry_after: secondsUntil(seen.blocked_until) })
    const known = { meta_code: loggableNumber(seen.meta_code), meta_subcode: loggableNumber(seen.meta_subcode), fbtrace_id: loggableWord(seen.fbtrace_id) }
    detailsByError.set(error, { sent: seen.sent, meta_code: known.meta_code ?? null, meta_subcode: known.meta_subcode ?? null, fbtrace_id: known.fbtrace_id ?? null })
    log?.warn({
      call: call.name,
      outcome: error.code,
      status: seen.status,
      ...known,
      graph_version: loggableWord(seen.graph_version),
      reason: seen.reason
    }, 'a call of the Graph API failed')
    return error
  }
}

/** What Meta counts a call against. */
function limitSubjectOf ({ app, account, token, credential = token }: Pick<GraphRequest, 'app' | 'account' | 'credential' | 'token'>): LimitSubject {
  return { app: app?.id, account, credential }
}

/** At least one second; a client that came earlier would only hear the same. */
function secondsUntil (time = 0): number {
  return Math.max(1, Math.ceil((time - Date.now()) / 1000))
}

function pathWithQuery ({ app, path, query, token }: GraphRequest): string {
  // developers.facebook.com/docs/graph-api/guides/secure-requests
  const proof = app !== undefined && token !== undefined && { appsecret_proof: createHmac('sha256', app.secret).update(token).digest('hex') }
  const search = String(new URLSearchParams({ ...query, ...proof }))
  return search === '' ? path : `${path}?${search}`
}

function requestInit ({ method, form, json, token }: GraphRequest): RequestInit {
  const headers = new Headers(token === undefined ? {} : { authorization: `Bearer ${token}` })
  if (method === 'GET') return { method, headers }
  const bytes = Buffer.from(json === undefined ? String(new URLSearchParams(form)) : JSON.stringify(json))
  if (json !== undefined) headers.set('content-type', 'application/json')
  else if (form !== undefined) headers.set('content-type', 'application/x-www-form-urlencoded')
  headers.set('content-length', String(bytes.length))
  // A stream, also when it is empty, because fetch sends any other request once more when the answer is 421.
  return { method, headers, body: new Blob([bytes]).stream(), duplex: 'half' }
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

/** Whether what kept an answer from coming is that no connection came about. Of a lost one nobody knows what it carried. */
function neverConnected (cause: unknown): boolean {
  // Node tries all addresses of a host, and tells what became of each.
  if (cause instanceof AggregateError) return cause.errors.every(neverConnected)
  // ECONNREFUSED and its like say the first, ENOTFOUND and EAI_AGAIN the second.
  const syscall = cause instanceof Error && 'syscall' in cause ? cause.syscall : undefined
  return syscall === 'connect' || syscall === 'getaddrinfo' || causeCode(cause) === 'UND_ERR_CONNECT_TIMEOUT'
}

/** What the operating system or TLS calls it, such as ECONNREFUSED; fetch says no more than "fetch failed". */
function causeCode (cause: unknown): unknown {
  return cause instanceof Error && 'code' in cause ? cause.code : undefined
}

function loggableNumber (value: unknown): number | undefined {
  return Number.isSafeInteger(value) ? Number(value) : undefined
}

/* What is logged of a reply is an id or a version by its looks, never a sentence that may quote what we sent. */
function loggableWord (value: unknown): string | undefined {
  return typeof value === 'string' && /^[\w.+/=-]{1,30}$/.test(value) ? value : undefined
}
