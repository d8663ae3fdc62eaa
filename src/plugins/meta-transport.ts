import { createHmac } from 'node:crypto'
import type { FastifyError } from '@fastify/error'
import { type Static, type TSchema, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { type ErrorClass, MetaAppRejected, MetaTimeout, MetaTokenInvalid, MetaUnavailable } from '../errors.js'
import { ErrorReply, metaErrorFor, type Standing } from './meta-errors.js'

/** A call of the Graph API: its name in the log, and what it stands on. */
export interface Call { name: string, on: Standing }

/** A call, and what it sends. */
export interface GraphRequest extends Call {
  method: 'GET' | 'POST'
  /** What follows the version in the URL, percent-encoded. */
  path: string
  query?: Record<string, string>
  form?: URLSearchParams
  /** A token to be sent, and the secret of the app it was issued for, which signs it. */
  bearer?: { token: string, secret: string }
  /** The limit of several calls together; without one, each has its own. */
  signal?: AbortSignal
}

/** What was seen of a call that failed; not all of it is fit to be logged as it is. */
interface Seen {
  /** The HTTP status of the answer. */
  status?: number
  meta_code?: unknown
  meta_subcode?: unknown
  fbtrace_id?: unknown
  graph_version?: unknown
  /** What kept the answer from coming. */
  reason?: unknown
}

/** Where calls go, how long they may take, and who is told of failures. */
export interface TransportOptions {
  /** Such as https://graph.facebook.com */
  baseUrl: string
  /** Such as v26.0 */
  version: string
  /** Milliseconds each call may take, reading its body included. */
  timeoutMs: number
  fetch: typeof globalThis.fetch
  /** Pino-like; gets one line per call. */
  log?: { info (fields: object, message: string): void, warn (fields: object, message: string): void }
}

const MAX_BODY_BYTES = 1024 * 1024

/** An access token. A bearer header carries no more than this, and fetch would call the rest a network failure. */
export const Token = Type.String({ pattern: '^[!-~]{1,4096}$' })

/**
 * Sends calls to the Graph API, each once, and reads the answers. No redirect is followed, and no error or log line
 * carries a secret, Meta's words or a query string.
 */
export function createTransport ({ baseUrl, version, timeoutMs, fetch, log }: TransportOptions) {
  const base = `${baseUrl.replace(/\/$/, '')}/${version}`

  return { send, failure }

  /**
   * Makes one call.
   *
   * @param schema what a good answer looks like
   * @returns the answer's JSON
   * @throws MetaTimeout, MetaUnavailable, MetaAppRejected or MetaTokenInvalid for a token no header can carry, and what
   * `metaErrorFor` names
   */
  async function send<T extends TSchema> (request: GraphRequest, schema: T): Promise<Static<T>> {
    if (request.bearer && !Value.Check(Token, request.bearer.token)) {
      throw failure(request, request.on === 'app' ? MetaAppRejected : MetaTokenInvalid)
    }
    const url = `${base}/${target(request)}`
    const init = content(request)
    const { signal = AbortSignal.timeout(timeoutMs) } = request
    let reply: Response
    let body: unknown
    try {
      reply = await fetch(url, { ...init, redirect: 'manual', signal })
      body = await readJson(reply)
    } catch (err) {
      throw failure(request, signal.aborted ? MetaTimeout : MetaUnavailable, { reason: causeOf(err) })
    }
    // Meta answers for an expired version with the oldest one it still serves, and says so nowhere else.
    const served = reply.headers.get('facebook-api-version')
    if (reply.ok && Value.Check(schema, body)) {
      log?.info({ call: request.name, graph_version: word(served) }, 'a call of the Graph API succeeded')
      return body
    }

    const error = Value.Check(ErrorReply, body) ? body.error : undefined
    throw failure(request, metaErrorFor(request.on, reply.status, error), {
      status: reply.status,
      meta_code: error?.code,
      meta_subcode: error?.error_subcode,
      fbtrace_id: error?.fbtrace_id ?? reply.headers.get('x-fb-trace-id'),
      graph_version: served
    })
  }

  /** Logs that a call failed; returns the error to throw. */
  function failure (call: Call, Failure: ErrorClass, seen: Seen = {}): FastifyError {
    const error = new Failure()
    log?.warn({
      call: call.name,
      outcome: error.code,
      status: seen.status,
      meta_code: number(seen.meta_code),
      meta_subcode: number(seen.meta_subcode),
      fbtrace_id: word(seen.fbtrace_id),
      graph_version: word(seen.graph_version),
      reason: seen.reason
    }, 'a call of the Graph API failed')
    return error
  }
}

function target ({ path, query, bearer }: GraphRequest): string {
  // developers.facebook.com/docs/graph-api/guides/secure-requests
  const proof = bearer && { appsecret_proof: createHmac('sha256', bearer.secret).update(bearer.token).digest('hex') }
  const search = String(new URLSearchParams({ ...query, ...proof }))
  return search === '' ? path : `${path}?${search}`
}

function content ({ method, form, bearer }: GraphRequest): RequestInit {
  const headers = new Headers(bearer && { authorization: `Bearer ${bearer.token}` })
  if (form === undefined) return { method, headers }
  const bytes = Buffer.from(String(form))
  headers.set('content-type', 'application/x-www-form-urlencoded')
  headers.set('content-length', String(bytes.length))
  // A stream, because fetch sends every other body once more when the answer is 421.
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
