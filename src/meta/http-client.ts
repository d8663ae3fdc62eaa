import { createHmac } from 'node:crypto'
import { parse } from 'lossless-json'
import { readBody } from '../outbound/body.js'
import type { CallInit, Fetch } from '../outbound/outbound.js'
import type { HttpRequest, MetaApp } from './types.js'

/**
 * An answer; `body` is its JSON, undefined for any other body and for one above 1 MiB. An integer beyond 2^53 is a
 * bigint.
 */
export interface Reply { status: number, isOk: boolean, headers: Headers, body: unknown }

/** Why no answer came. */
export interface NoReply {
  /** False only when no connection came about, and so nothing reached Meta. */
  wasSent: boolean
  /** The code of the system or of TLS, such as ECONNREFUSED; the error of fetch itself is only "fetch failed". */
  reason: unknown
}

/** The Graph API and the way to it. */
export interface HttpOptions {
  /** Such as https://graph.facebook.com */
  baseUrl: string
  /** Such as v26.0 */
  version: string
  fetch: Fetch
}

const MAX_BODY_BYTES = 1024 * 1024

/** Returns `send`, which sends one request to the Graph API, once, and reads the answer. No redirect is followed. */
export function createHttpClient ({ baseUrl, version, fetch }: HttpOptions) {
  const base = `${baseUrl.replace(/\/$/, '')}/${version}`

  /** @param app signs the token of the request; undefined to send it without a proof */
  return async function send (
    request: HttpRequest, app: MetaApp | undefined, signal: AbortSignal
  ): Promise<Reply | NoReply> {
    const url = `${base}/${pathWithQuery(request, app)}`
    const options = { ...requestInit(request), redirect: 'manual', signal } as const
    try {
      const reply = await fetch(url, options)
      return { status: reply.status, isOk: reply.ok, headers: reply.headers, body: await readJson(reply, signal) }
    } catch (err) {
      const cause = err instanceof Error ? err.cause : undefined
      return { wasSent: !isUnconnected(cause), reason: causeCode(cause) }
    }
  }
}

function pathWithQuery ({ path, query, token }: HttpRequest, app: MetaApp | undefined): string {
  // developers.facebook.com/docs/graph-api/guides/secure-requests
  const proof = app !== undefined && token !== undefined &&
    { appsecret_proof: createHmac('sha256', app.secret).update(token).digest('hex') }
  const search = String(new URLSearchParams({ ...query, ...proof }))
  return search === '' ? path : `${path}?${search}`
}

function requestInit ({ method, form, json, token }: HttpRequest): CallInit {
  const headers = new Headers(token === undefined ? {} : { authorization: `Bearer ${token}` })
  if (method === 'GET') return { method, headers }
  const bytes = Buffer.from(json === undefined ? String(new URLSearchParams(form)) : JSON.stringify(json))
  if (json !== undefined) headers.set('content-type', 'application/json')
  else if (form !== undefined) headers.set('content-type', 'application/x-www-form-urlencoded')
  headers.set('content-length', String(bytes.length))
  // A stream, also for an empty body: fetch repeats any other request after a 421.
  return { method, headers, body: new Blob([bytes]).stream(), duplex: 'half' }
}

async function readJson (reply: Response, signal: AbortSignal): Promise<unknown> {
  const bytes = await readBody(reply, MAX_BODY_BYTES, signal)
  if (bytes === undefined) return undefined
  try {
    return parse(bytes.toString(), null, { parseNumber, onDuplicateKey: ({ newValue }) => newValue })
  } catch {
    return undefined
  }
}

/** As JSON.parse, but an integer that would lose digits is a bigint: it may be an id. */
function parseNumber (text: string): number | bigint {
  const value = Number(text)
  return Number.isInteger(value) && !Number.isSafeInteger(value) && /^\d{1,32}$/.test(text) ? BigInt(text) : value
}

/** Whether no connection came about. A lost connection may have carried the request. */
function isUnconnected (cause: unknown): boolean {
  // Node tries all addresses of a host, and reports an error for each.
  if (cause instanceof AggregateError) return cause.errors.every(isUnconnected)
  // `connect` comes with ECONNREFUSED and the like, `getaddrinfo` with ENOTFOUND and EAI_AGAIN.
  const syscall = cause instanceof Error && 'syscall' in cause ? cause.syscall : undefined
  return syscall === 'connect' || syscall === 'getaddrinfo' || causeCode(cause) === 'UND_ERR_CONNECT_TIMEOUT'
}

function causeCode (cause: unknown): unknown {
  return cause instanceof Error && 'code' in cause ? cause.code : undefined
}
